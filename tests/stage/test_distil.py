"""What stage=distil refuses, and what its key and its plan read of the teacher."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

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
