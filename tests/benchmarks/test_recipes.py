"""The table of benchmarks/recipes.py, and that its command lines stand in docs/recipes.md."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCORE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
SUMMARY = {
    "steps": {
        "sft": {"state": "done", "seconds": 0.0, "original_seconds": 12.0},
        "evaluate-post-sft": {"state": "done", "seconds": 3.0},
    },
    "post_sft_accuracy": {"sampled": SCORE},
    "evaluations": {"post_sft": {"arithmetic": {"sampled": {"accuracy": SCORE, "format": {"value": 0.9}}}}},
}


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    return importlib.import_module("recipes")


def test_the_table_has_a_row_a_step_with_the_accuracy_that_it_measured(recipes: ModuleType) -> None:
    rows = recipes.rows_of("open_r1", 1, SUMMARY)
    assert recipes.table(rows).splitlines()[2:] == [
        "| open_r1 | 1 | sft |  |  | 12 |",
        "| open_r1 | 1 | evaluate-post-sft | 50.0 [40.0, 60.0] | 90.0 | 3 |",
    ]


def test_every_recipe_is_in_the_documentation(recipes: ModuleType) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text()
    for command in recipes.RECIPES.values():
        assert f"r1exp {' '.join(command)}" in text
