"""The Gemma 2 experiments with a small model of that shape, whose chat template refuses system text."""

import json
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.step.status import read_status
from tests.model.gemma2 import gemma2_folder

ROWS = [
    {"question": f"Ann has {n} apples and buys {n}. How many?", "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"}
    for n in range(2, 50)
]  # fmt: skip
SPLITS = {"train": ROWS[:24], "test": ROWS[24:]}
SHORT = [
    "debug=fast", "debug.num_problems=4", "max_completion_length=8", "num_generations=2", "model.compute_dtype=float32",
    "model.gradient_checkpointing=false", "evaluation.before=false", "tracking=none", "paths.run=run",
]  # fmt: skip


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the overrides that name the model and the data, both on this machine."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "gsm8k"
    data.mkdir()
    for split, rows in SPLITS.items():
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"model.path={gemma2_folder(tmp_path / 'gemma')}", f"dataset.path={data}"]


@pytest.mark.slow
def test_a_template_that_refuses_system_text_is_no_hindrance(places: list[str], tmp_path: Path) -> None:
    assert main(["plan", "experiment=gemma2_gsm8k_strict", *places]) == 0
    assert main(["experiment=gemma2_gsm8k_vote", *places, *SHORT]) == 0
    states = [read_status(folder) for folder in sorted((tmp_path / "run" / "steps").iterdir())]
    assert [state.state for state in states if state is not None] == ["done", "done"]
    template = (tmp_path / "run" / "steps" / "01-grpo" / "artifact" / "chat_template.jinja").read_text()
    assert "System role not supported" in template
    assert template.startswith("{%- if messages[0]['role'] == 'system' -%}")
