import json
from pathlib import Path

from r1exp.tracking.metrics import MetricsFile, loggable


def test_a_row_keeps_the_names_of_the_trainer_and_writes_nan_as_null() -> None:
    logs = {"kl": 0.1, "reward": float("nan"), "epoch": 1, "note": "text", "grad_norm": float("inf")}
    row = loggable(logs, 3)
    assert row.pop("not_finite") == {"reward": "nan", "grad_norm": "inf"}
    assert row == {"step": 3, "kl": 0.1, "reward": None, "epoch": 1, "grad_norm": None}


def test_a_row_of_finite_numbers_has_no_not_finite_field(tmp_path: Path) -> None:
    assert loggable({"kl": 0.1, "rewards/judge/mean": None}, 3) == {
        "step": 3,
        "kl": 0.1,
        "rewards/judge/mean": None,
    }


def test_rows_after_a_checkpoint_are_removed(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.append({"step": step, "kl": step / 10})
    metrics.forget_after(2)
    assert [row["step"] for row in metrics.rows()] == [1, 2]


def test_an_incomplete_last_line_is_ignored(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.append({"step": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "k')
    assert metrics.rows() == [{"step": 1}]
    metrics.forget_after(1)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1}
