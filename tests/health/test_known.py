"""The table of known metrics is that of the trainers, and a rule on another metric is refused."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.health.known import METRICS, is_known
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
ROOT = Path(__file__).parents[2]
LOGGED = re.compile(r'metrics\[(?:"train"|mode)?\]?\[?"([a-z_/]+)"\]|_log_mean\("([a-z_/]+)"')
NO_METRICS = {"train"}
NOT_HERE = {"tools/call_frequency", "tools/failure_frequency"}  # r1exp gives the model no tools


def logged_by(sources: list[Path]) -> set[str]:
    """Return the names of the metrics that a source writes as literals."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    return {name for pair in LOGGED.findall(text) for name in pair if name} - NO_METRICS


def test_every_metric_of_the_trainers_is_known() -> None:
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    names = [f"{name}_trainer.py" for name in ("sft", "grpo", "rloo", "dpo", "kto", "distillation", "reward")]
    of_trl = logged_by([Path(spec.origin).parent / "trainer" / name for name in names])
    own = logged_by(sorted((ROOT / "r1exp").rglob("*.py")))
    assert len(of_trl) > 40 and {"beta", "value_loss", "dynamic_sampling/rounds"} <= own
    assert of_trl | own <= METRICS | NOT_HERE


@pytest.mark.parametrize(
    ("metric", "known"),
    [
        ("kl", True),
        ("kll", False),
        ("rewards/graded/mean", True),
        ("rewards/grded/mean", False),
        ("rewards/graded/men", False),
        ("rewards/graded/abstained/gold_unreadable", True),
    ],
)
def test_a_metric_of_a_reward_is_known_by_the_name_of_the_reward(metric: str, known: bool) -> None:
    assert is_known(metric, ["graded"]) is known


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        pytest.param(["health.rules.kl_high.metric=kll"], "metric=kll: no step .* did you mean kl?", id="misspelt"),
        pytest.param(["health.rules.entropy_collapse.beside=rewrd"], "did you mean reward?", id="beside"),
        pytest.param(
            ["health.rules.kl_high.metric=rewards/grded/mean"], "did you mean rewards/graded/mean?", id="a reward"
        ),
        pytest.param(["health.rules.kl_high.metric=zzz"], "metrics.jsonl of a finished step", id="nothing like it"),
    ],
)  # fmt: skip
def test_a_rule_on_a_metric_that_no_step_logs_is_refused(
    overrides: list[str], says: str, compose_line: Compose
) -> None:
    with pytest.raises(Refused, match=says):
        planned_steps(compose_line(*overrides))


def test_a_rule_for_rewards_may_stand_in_a_run_without_them(compose_line: Compose) -> None:
    planned_steps(compose_line("stage=sft", "health.rules.kl_high.metric=rewards/graded/mean"))
