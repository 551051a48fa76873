"""Old terms, British spelling and the numbers of the source documents do not return to the repository."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "claims", "conf", "docs", "launchers", "r1exp", "sweeps", "tests")
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md")
SUFFIXES = (".json", ".md", ".py", ".sbatch", ".sh", ".txt", ".yaml")
OLD_TERMS = {  # old term, as a regular expression -> the term to use
    "rungs?": "step",
    "ladders?": "pipeline",
    "nursery": "forkserver",
    "workplace": "working directory",
    "hears": "receives",
    "shadow": "logged with weight 0",
    "optimis(?:e|es|ed|er|ers|ing|ation)": "optimize, optimizer",
    r"seeds? 00\d?": "the citation key of docs/sources.md, for example [gemma-grpo]",
}
RECORDED = "tests/runner/version_0_1_0/"  # what an earlier version wrote
ALLOWED = {  # file -> parts of lines that are no old terms
    "docs/sources.md": [
        "seed 000",
        "seed 001",
        "seed 002",
        "seed 003",
        "seed 004",
    ],  # defines the citation keys
    "docs/claims.md": ["sweeps=shadow"],
    "sweeps/shadow.yaml": ["name: shadow", "sweeps=shadow"],
    "tests/sandbox/test_attacks.py": ["/etc/shadow"],  # a file of the operating system
}


def pattern_of(term: str) -> re.Pattern[str]:
    """Return a pattern for a whole word; an underscore separates words, so that identifiers are found too."""
    return re.compile(rf"(?<![a-z]){term}(?![a-z])", re.IGNORECASE)


def lines() -> list[tuple[str, int, str]]:
    """Return (path, line number, text without the allowed parts) of every line that is checked."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    result = []
    for path in [*found, *(ROOT / name for name in FILES)]:
        if not path.is_file() or path.suffix not in SUFFIXES or path == Path(__file__):
            continue
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(RECORDED):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for part in ALLOWED.get(name, []):
                line = line.replace(part, "")
            result.append((name, number, line))
    return result


@pytest.fixture(scope="module")
def checked_lines() -> list[tuple[str, int, str]]:
    return lines()


@pytest.mark.parametrize(("term", "instead"), OLD_TERMS.items())
def test_an_old_term_does_not_return(
    term: str, instead: str, checked_lines: list[tuple[str, int, str]]
) -> None:
    pattern = pattern_of(term)
    found = [
        f"{name}:{number}: {line.strip()}" for name, number, line in checked_lines if pattern.search(line)
    ]
    assert not found, f"use {instead!r} instead of {term!r} in\n" + "\n".join(found)


@pytest.mark.parametrize("name", ALLOWED)
def test_an_allowed_file_still_has_its_exceptions(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [part for part in ALLOWED[name] if part not in text] == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        pytest.param("the next rung of it", True, id="a word"),
        pytest.param("def test_a_Rung_ends() -> None:", True, id="a part of an identifier"),
        pytest.param("a wrung sponge, and rungsten", False, id="a part of another word"),
    ],
)
def test_whole_words_are_found(text: str, is_found: bool) -> None:
    assert (pattern_of("rungs?").search(text) is not None) == is_found
