"""docs/sources.md lists every paper that the repository cites."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "claims", "conf", "docs", "launchers", "r1exp", "sweeps", "tests")
SOURCES = ROOT / "docs" / "sources.md"
PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}")


def texts() -> dict[str, str]:
    """Return path -> text of the text files of the repository except docs/sources.md."""
    files = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*"))]
    kept = [path for path in files if path.suffix in (".md", ".py", ".yaml", ".json", ".sbatch", ".sh")]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in kept if path != SOURCES}


def test_every_cited_paper_is_listed_once_in_the_sources() -> None:
    cited = {paper for text in texts().values() for paper in PAPER.findall(text)}
    listed = PAPER.findall(SOURCES.read_text(encoding="utf-8"))
    assert len(listed) == len(set(listed))
    assert cited == set(listed)
