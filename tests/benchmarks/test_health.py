"""benchmarks/health.py ends at a run that fails, and replaces only the rows of the runs that it made."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "health", raising=False)
    return importlib.import_module("health")


def test_each_default_rule_has_a_run_that_breaks_it(health: ModuleType) -> None:
    assert set(health.TRIPS) == set(
        health.yaml.safe_load((ROOT / "conf/health/default.yaml").read_text())["rules"]
    )


@pytest.mark.parametrize("code", [1, 2, 3, -9])
def test_a_run_that_fails_raises(
    health: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    done = subprocess.CompletedProcess([], code, "", "what went wrong")
    monkeypatch.setattr(health.subprocess, "run", lambda *args, **kwargs: done)
    with pytest.raises(RuntimeError, match=f"(?s)sft: exit code {code}.*what went wrong"):
        health.run("sft", tmp_path, ())


def test_rows_that_were_not_run_stay(
    health: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begin, end = "<!-- begin: benchmarks/health.py trips -->\n", "<!-- end: trips -->\nafter\n"
    (tmp_path / "health.md").write_text(
        f"before\n{begin}| rule |\n|---|\n| `a` | old |\n| `gone` | old |\n| `c` | old |\n{end}"
    )
    monkeypatch.setattr(health, "DOCS", tmp_path)
    health.replace_table(
        "trips", ["| rule |", "|---|", "| `c` | new |", "| `b` | new |"], ["`a`", "`b`", "`c`"]
    )
    rows = "| `a` | old |\n| `b` | new |\n| `c` | new |\n"
    assert (tmp_path / "health.md").read_text() == f"before\n{begin}| rule |\n|---|\n{rows}{end}"
