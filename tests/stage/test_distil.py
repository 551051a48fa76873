"""What stage=distil refuses, what its key and its plan read of the teacher, and in which precision it computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from r1exp.__main__ import main
from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.launcher.fork_client import fork_servers
from r1exp.model.tiny import build_tiny
from r1exp.paths import RunPaths
from r1exp.plan.steps import planned_steps
from r1exp.tracking.metrics import MetricsFile

Compose = Callable[..., Experiment]
QUIET = ["evaluation.before=false", "evaluation.after=false"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param([], "give stage.teacher=RUN", id="no teacher"),
        pytest.param(["stage.teacher=/nowhere/at/all"], "stage.teacher=/nowhere/at/all: there is no such", id="missing"),
        pytest.param(["stage.teacher=a/b", "rollout=vllm_colocate"], "type rollout=hf", id="another engine"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(words: list[str], says: str, compose_line: Compose) -> None:
    with pytest.raises(Refused, match=says):
        planned_steps(compose_line("stage=distil", *QUIET, *words))


def test_rewards_and_beta_have_no_place(compose_line: Compose) -> None:
    with pytest.raises(Refused, match="does not read beta"):
        compose_line("stage=distil", "stage.teacher=a/b", "beta=0.1")


def test_the_content_of_the_teacher_is_part_of_the_key(compose_line: Compose, tmp_path: Path) -> None:
    def key(name: str, content: str, *words: str) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text('{"model_type": "qwen2"}')
        (folder / "model.safetensors").write_text(content)
        (step,) = planned_steps(compose_line("stage=distil", *QUIET, f"stage.teacher={folder}", *words))
        return step.key

    assert key("a", "weights") == key("b", "weights") != key("c", "others")
    assert key("a", "weights") != key("a", "weights", "stage.beta=0.5")


class Vocabulary:
    """A tokenizer of which only the vocabulary is asked."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._tokens)}


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        pytest.param(("a", "c", "b"), "'b' is token 1 of the student's 3 and 2 of the teacher's 3", id="moved"),
        pytest.param(("a", "b", "c", "d"), "'d' is token None of the student's 3 and 3 of the teacher's 4", id="more"),
    ],
)  # fmt: skip
def test_a_teacher_with_other_tokens_is_refused_by_name(theirs: tuple[str, ...], says: str) -> None:
    from r1exp.stage.train_distil import refuse_other_vocabulary

    ours: Any = Vocabulary("a", "b", "c")
    refuse_other_vocabulary(ours, ours, "student", "teacher")
    with pytest.raises(
        Refused, match=f"stage.teacher=teacher has another tokenizer than the student student: {says}"
    ):
        refuse_other_vocabulary(ours, cast(Any, Vocabulary(*theirs)), "student", "teacher")


@pytest.mark.slow
def test_mixed_precision_is_computed_in(
    compose_line: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = build_tiny(compose_line("stage=sft").steps[0].config.model, tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    line = [
        "stage=distil", f"stage.teacher={teacher}", "model.init_seed=1", "max_steps=2", "stage.prompts_per_step=4", "tracking=none",
        "evaluation.before=false", "evaluation.after=false", "dataset.num_train=8", "max_completion_length=8",
        "launcher=local", "launcher.device=cpu",
    ]  # fmt: skip
    losses = {}
    with fork_servers():
        for dtype in ("float32", "bfloat16"):
            assert main([*line, f"model.compute_dtype={dtype}", f"paths.run={dtype}"]) == 0
            rows = MetricsFile(RunPaths(Path(dtype)).step(1, "distil").metrics).rows()
            losses[dtype] = [row["loss"] for row in rows if "loss" in row]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
