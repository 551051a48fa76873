"""The number of groups with signal is that of generation batches, not of optimizer steps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1exp.paths import StepPaths
from r1exp.plan.batch import RlBatch
from r1exp.report.summary import _signal
from r1exp.tracking.metrics import MetricsFile


def step_with(updates: int, prompts: int) -> Any:
    rows = prompts * 4
    batch = RlBatch(
        world_size=1, rows_per_step=rows // updates, rows_per_device=4, accumulation=1, num_steps=8, num_rows=None,
        rows_dropped=None, steps_per_epoch=None, num_generations=4, steps_per_generation=updates,
        completions_per_generation=rows, updates_per_batch=updates,
    )  # fmt: skip
    return SimpleNamespace(batch=batch)


@pytest.mark.parametrize(
    ("updates", "rows", "expected"),
    [
        pytest.param(1, [(1, 0.5), (2, 1.0)], {"total": 16, "with_signal": 12}, id="no reuse"),
        pytest.param(
            2, [(1, 0.5), (2, None), (3, 1.0), (4, None)], {"total": 16, "with_signal": 12}, id="two optimizer steps each"
        ),
        pytest.param(2, [(1, 0.5), (2, None), (3, 1.0)], {"total": 16, "with_signal": 12}, id="ended within a batch"),
        # Step 6 averages the batches of steps 1, 3 and 5, and step 8 has that of step 7.
        pytest.param(2, [(6, 0.5), (8, 1.0)], {"total": 32, "with_signal": 20}, id="logged less often"),
        pytest.param(1, [(1, None)], None, id="never logged"),
    ],
)  # fmt: skip
def test_groups_are_counted_once_for_each_generation_batch(
    updates: int, rows: list[tuple[int, float | None]], expected: dict[str, int] | None, tmp_path: Path
) -> None:
    paths = StepPaths(tmp_path)
    file = MetricsFile(paths.metrics)
    for step, share in rows:
        file.append({"step": step, "loss": 0.1} | ({} if share is None else {"groups_with_signal": share}))
    file.append({"step": rows[-1][0], "train_runtime": 1.0, "train_loss": 0.1})
    assert _signal(step_with(updates, 8), paths) == expected
