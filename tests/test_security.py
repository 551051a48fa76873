"""What docs/security.md promises and no other test holds, and that each test it names exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1exp.model.settings import ModelSettings

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


def test_every_model_is_loaded_with_a_stated_trust() -> None:
    # What loads no code: generation settings, adapters of a model that is loaded already.
    harmless = ("GenerationConfig.from_pretrained", "PeftModel.from_pretrained")
    found = [
        (path, call, {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords})
        for path in FILES
        for name, call in calls(path)
        if name.endswith(".from_pretrained") and name not in harmless
    ]
    assert len(found) >= 8  # or this test reads nothing
    for path, call, keywords in found:
        assert "trust_remote_code" in keywords, f"{path}:{call.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_call_trusts_code_of_its_own_accord(path: Path) -> None:
    for name, call in calls(path):
        stated = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        for key in ("trust_remote_code", "trusts_code", "is_trusted"):
            assert stated.get(key) != "True", f"{path}:{call.lineno}: {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_configuration_trusts_the_code_of_a_model(path: Path) -> None:
    assert re.search(r"trust_remote_code:\s*true", path.read_text(encoding="utf-8")) is None
    assert ModelSettings.model_fields["trust_remote_code"].default is False


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)::(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
