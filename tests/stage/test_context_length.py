"""Prompts that do not fit into the model's context are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.model.tiny import build_tiny
from r1exp.plan.steps import planned_steps
from r1exp.records import Problem
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.step import Step

Freeze = Callable[..., Step]


@pytest.fixture
def step(frozen: Freeze, tmp_path: Path) -> Step:
    """Return a step whose completions leave 100 tokens for a prompt."""
    overrides = ["stage=evaluate", "model.shape.max_position_embeddings=300", "max_completion_length=200"]
    step = frozen(*overrides, model=str(tmp_path / "model"))
    build_tiny(step.config.model, tmp_path / "model")
    return step


def problem(question: str) -> Problem:
    return Problem(id="long", prompt=question, answer="1")


def test_a_prompt_with_too_many_bytes_is_tokenized(step: Step) -> None:
    question = "the answer is " * 9
    assert len(question.encode()) > 100  # more bytes than there is room for tokens
    refuse_beyond_context([Problem("short", "1 + 1", "2"), problem(question)], step)  # but fewer tokens
    with pytest.raises(Refused, match="positions"):
        # The same number of bytes, but each is a token.
        refuse_beyond_context([Problem("short", "1 + 1", "2"), problem("\u00e9" * 63)], step)


def test_the_error_names_the_problem_whose_prompt_is_too_long(step: Step) -> None:
    with pytest.raises(
        Refused, match=r"problem long: its prompt has \d{3} tokens; with .* the model's 300 positions"
    ):
        refuse_beyond_context([Problem(id="short", prompt="1 + 1", answer="2"), problem("7 " * 150)], step)


def test_completions_as_long_as_the_context_are_refused_by_the_plan(
    compose_line: Callable[..., Experiment],
) -> None:
    with pytest.raises(Refused, match="leaves no room for a prompt in the model's 2048 positions"):
        planned_steps(compose_line("max_completion_length=2048"))
    with pytest.raises(Refused, match=r"evaluation\.max_tokens=3000 leaves no room for a prompt"):
        planned_steps(compose_line("stage=evaluate", "evaluation.max_tokens=3000"))
    with pytest.raises(Refused, match=r"leaves no room for a prompt in rollout\.max_model_length=40"):
        planned_steps(compose_line("rollout=vllm_colocate", "rollout.max_model_length=40"))
    assert planned_steps(
        compose_line(
            "stage=sft", "max_completion_length=2048", "evaluation.after=false", "evaluation.before=false"
        )
    )
