"""benchmarks/races.py on the results of a race that was run."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "races", raising=False)
    return importlib.import_module("races")


@pytest.mark.parametrize(
    ("settings", "luck", "freedom"),
    [
        pytest.param([[1.0, 2.0, 5.0], [11.0, 12.0, 15.0]], 0.0, 2, id="settings and seeds alone"),
        pytest.param([[1.0, 2.0, 5.0], [11.0, 12.0]], 0.0, 1, id="a setting was dropped"),
        pytest.param([[0.0, 0.0], [0.0, 2.0]], 1.0, 1, id="one run differs by 2"),  # residuals of 1/2 each
    ],
)
def test_the_luck_of_a_run_is_what_settings_and_seeds_leave(
    races: ModuleType, settings: list[list[float]], luck: float, freedom: int
) -> None:
    assert races.own_luck(settings) == (pytest.approx(luck, abs=1e-9), freedom)


def test_a_race_that_was_run_is_set_beside_the_planned_design(races: ModuleType, tmp_path: Path) -> None:
    found = {
        "rules": {"delta": 0.01, "alpha": 0.05}, "num_runs": 8, "state": "spent",
        "settings": [{"objectives": [0.50, 0.52, 0.49, 0.51]}, {"objectives": [0.51, 0.52, 0.48, 0.52]}],
    }  # fmt: skip
    (tmp_path / "race.json").write_text(json.dumps(found))
    text = races.beside(tmp_path / "race.json")
    assert text.startswith(
        "8 runs, spent; luck of a run beside its seed's 0.68 points (3 degrees of freedom)"
    )
    assert "to name a setting within 1 points of the best: " in text and "seeds of each" in text
