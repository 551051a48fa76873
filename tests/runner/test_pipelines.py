"""Every pipeline of conf/pipeline runs to its end with debug=fast; test_run.py tests sft_grpo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from r1exp.assets import CONF

# The steps of these are also those of a twin, or need data from outside.
COVERED: tuple[str, ...] = (
    "none",
    "sft_grpo",
    "open_r1",
    "limo_sft",
    "limo_sft_twin",
    "limo_sft_grpo",
    "deepseek_r1_zero",
)
COVERED += ("deepseek_r1_controls",)
PUBLIC = ("dpo_preferences", "rlhf_preferences", "deepseek_r1")  # on data from outside
OWN = {"deepseek_r1_twin": ["model=tiny_bilingual", "evaluation.after=false"]}
PIPELINES = sorted(path.stem for path in CONF.glob("pipeline/*.yaml") if path.stem not in (*COVERED, *PUBLIC))
OVERRIDES = [
    "debug=fast",
    "tracking=none",
    "evaluation.before=false",
    "launcher.threads_per_process=1",
    "paths.run=run",
]


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_runs_to_its_end(pipeline: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", f"pipeline={pipeline}", *OVERRIDES, *OWN.get(pipeline, [])],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["state"] == "done"
    models = [path.parent.name for path in (tmp_path / "run" / "steps").glob("*/artifact/model.safetensors")]
    assert len(models) >= 2, models  # the model of SFT and that of the last step


@pytest.mark.slow
def test_a_pipeline_on_public_preference_data_runs_to_its_end(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {k} + 1?", "chosen": str(k + 1), "rejected": str(k)} for k in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    data = ["dataset=preference", "dataset.path=pairs.jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", "pipeline=rlhf_preferences", *data, *OVERRIDES],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [step["state"] for step in summary["steps"].values()] == ["done", "done", "done"]
