"""lm_eval and lighteval on the tiny model, each in its own environment, with a task of local problems; on the CPU.

`make harness` makes the environments; where one is missing, its tests are skipped.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.evaluation.harness import version_of
from r1exp.evaluation.settings import HarnessName

LM_EVAL = """\
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 24}}
filter_list:
  - name: last-number
    filter: [{{function: regex, group_select: -1, regex_pattern: "(-?[0-9]+)"}}, {{function: take_first}}]
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
LIGHTEVAL = """\
from lighteval.metrics.metrics import Metrics
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc


def prompt(line, task_name=None):
    return Doc(task_name=task_name, query=line["question"], choices=[line["answer"]], gold_index=0)


TASKS_TABLE = [
    LightevalTaskConfig(
        name="sums", prompt_function=prompt, hf_repo="{folder}", hf_subset="default", metrics=[Metrics.exact_match],
        hf_avail_splits=["test"], evaluation_splits=["test"], generation_size=24, stop_sequence=[],
    )
]
"""


def tasks_file(harness: HarnessName, folder: Path) -> Path:
    """Write six problems and a task of them; return what `evaluation.tasks_path` names."""
    data = folder / "data" / "test.jsonl"
    data.parent.mkdir(parents=True)
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(6)]
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if harness == "lm_eval":
        (folder / "sums.yaml").write_text(LM_EVAL.format(data=data))
        return folder
    (folder / "sums.py").write_text(LIGHTEVAL.format(folder=data.parent))
    return folder / "sums.py"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("harness", "suite", "metric"),
    [("lm_eval", "lm_eval:sums", "exact_match,last-number"), ("lighteval", "lighteval:sums|0", "em")],
)
def test_a_harness_evaluates_the_tiny_model(
    harness: HarnessName,
    suite: str,
    metric: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if version_of(harness) is None:
        pytest.skip(f"{harness} is not installed; type: make harness")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tasks_file(harness, tmp_path / "tasks")  # hashed as an input: the run must lie elsewhere
    arguments = ["stage=evaluate", f"evaluation.harness={harness}", "evaluation.tasks=sums", "tracking=none"]
    arguments += [f"evaluation.tasks_path={path}", "launcher.threads_per_process=1", "paths.run=run"]
    assert main(arguments) == 0
    summary: Any = json.loads((tmp_path / "run" / "summary.json").read_text())
    values = summary["evaluations"]["evaluate"][suite]["harness"][metric]
    assert values["n"] == 6 and 0.0 <= values["low"] <= values["value"] <= values["high"] <= 1.0
    assert values["stderr"] is not None
    assert suite in capsys.readouterr().out
