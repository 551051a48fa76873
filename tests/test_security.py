"""What docs/security.md promises and no other test holds, and that each test it names exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1exp.model.settings import ModelSettings
from r1exp.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "security.md"
FILES = sorted((ROOT / "r1exp").rglob("*.py"))
# Reads only what it wrote itself, in the same process.
OWN_PICKLES = {"r1exp/config/sources.py"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the dotted name and the node of every call of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_every_torch_load_reads_weights_only() -> None:
    found = [
        (path, {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords})
        for path in FILES
        for name, call in calls(path)
        if name == "torch.load"
    ]
    assert len(found) >= 2  # or this test reads nothing
    for path, keywords in found:
        assert keywords.get("weights_only") == "True", path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_unpickled(path: Path) -> None:
    if str(path.relative_to(ROOT)) in OWN_PICKLES:
        return
    loaders = (
        "pickle.load",
        "pickle.loads",
        "dill.load",
        "joblib.load",
        "cloudpickle.load",
        "numpy.load",
        "np.load",
    )
    for name, call in calls(path):
        assert name not in loaders, f"{path}:{call.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_call_trusts_the_code_of_a_model_or_data_set(path: Path) -> None:
    for name, call in calls(path):
        trusted = [keyword for keyword in call.keywords if keyword.arg == "trust_remote_code"]
        assert not trusted, f"{path}:{call.lineno}: {name}"


def test_no_setting_turns_on_the_code_of_a_model() -> None:
    def known(settings: type[Settings]) -> set[str]:
        return set(settings.model_fields)

    assert "trust_remote_code" not in known(ModelSettings)
    with pytest.raises(ValidationError, match="trust_remote_code"):
        ModelSettings.model_validate({"trust_remote_code": True})


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)::(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
