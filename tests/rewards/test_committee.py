from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from r1exp.errors import Refused, StoppedByHealth
from r1exp.records import Completion, Problem
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.base import (
    NOT_APPLICABLE,
    TIMEOUT,
    Abstain,
    BatchReward,
    Context,
    JudgedReward,
    Reward,
    Score,
    SlowReward,
)
from r1exp.rewards.committee import Committee
from r1exp.rewards.graded import Graded
from r1exp.rewards.metrics import AbstentionBound
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format
from r1exp.rewards.vote_partial import VotePartial
from r1exp.rewards.worker_process import Job

NOW = Context()


class ByName(Reward):
    """Returns the number that is the text, and abstains on the text `abstain`."""

    kind: str = "by_name"

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 9.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        return Abstain("by request") if completion.text == "abstain" else float(completion.text)


def batch(*texts: str, num_generations: int = 2) -> tuple[list[Problem], list[Completion]]:
    ids = [f"p{row // num_generations}" for row in range(len(texts))]
    return [Problem(name, name, "42") for name in ids], [Completion(text, 3) for text in texts]


def test_every_member_scores_every_row() -> None:
    committee = Committee(
        {"right": Strict(style="plain"), "vote": VotePartial(style="plain", scope="group", weight=0.5)}
    )
    problems, completions = batch("#### 42", "#### 41", "#### 7", "#### 42")
    assert committee.names == ["right", "vote"]
    assert committee.weights == [1.0, 0.5]
    assert committee.score(problems, completions, NOW) == {
        "right": [2.0, 0.0, 0.0, 2.0],
        "vote": [2.0, 0.5, 0.0, 1.0],
    }


def test_applies_to_limits_a_member_to_some_rows() -> None:
    problems = [Problem("a", "a", "1", {"task": "math"}), Problem("b", "b", None, {"task": "chat"})]
    completions = [Completion("#### 1", 3), Completion("#### 1", 3)]
    committee = Committee({"right": Strict(style="plain", applies_to={"task": "math"})})
    assert committee.score(problems, completions, NOW) == {"right": [2.0, NOT_APPLICABLE]}


def test_a_committee_without_members_is_refused() -> None:
    with pytest.raises(ValueError, match="rewards=graded"):
        Committee({})


class Trainer:
    """Calls reward functions as TRL 1.16 does."""

    def __init__(self, committee: Committee, **settings: Any) -> None:
        self.funcs = reward_funcs(committee, **settings)
        self.logged: dict[str, float] = {}

    def call(self, *texts: str, **columns: object) -> dict[str, list[float | None]]:
        problems, completions = batch(*texts)
        rows = [problem.to_row([{"role": "user", "content": problem.prompt}]) for problem in problems]
        kwargs = {column: [row[column] for row in rows] for column in rows[0] if column != "prompt"}
        shared = {
            "prompts": [row["prompt"] for row in rows],
            "completions": [[{"role": "assistant", "content": answer.text}] for answer in completions],
            "completion_ids": [[1, 2, 3] for _ in completions],
            "trainer_state": SimpleNamespace(global_step=7, max_steps=9),
            "log_extra": lambda column, values: None,
            "log_metric": self.logged.__setitem__,
        }
        return {func.__name__: func(**shared, **kwargs, **columns) for func in self.funcs}


def test_trl_gets_one_function_for_each_member() -> None:
    committee = Committee({"right": Strict(style="plain"), "shape": Format(style="plain")})
    assert Trainer(committee).call("#### 42", "42") == {"right": [2.0, 2.0], "shape": [1.0, 0.0]}


def test_an_abstention_takes_the_mean_of_its_group() -> None:
    texts = ["1", "3", "abstain", "4", "abstain", "abstain"]
    trainer = Trainer(Committee({"stated": ByName()}))
    assert trainer.call(*texts) == {"stated": [1.0, 3.0, 4.0, 4.0, None, None]}
    assert trainer.logged["rewards/stated/abstained"] == 0.5
    assert trainer.logged["rewards/stated/abstained/by_request"] == 0.5
    assert trainer.logged["rewards/stated/variance_share"] == 1.0
    assert trainer.logged["rewards/stated/seconds"] > 0.0


def test_a_reason_that_occurred_once_is_reported_in_later_batches() -> None:
    trainer = Trainer(Committee({"stated": ByName()}))
    trainer.call("1", "abstain")
    trainer.call("1", "2")
    assert trainer.logged["rewards/stated/abstained/by_request"] == 0.0


def test_too_many_abstentions_stop_the_run() -> None:
    trainer = Trainer(Committee({"stated": ByName()}), bound=AbstentionBound(share=0.6, num_batches=1))
    trainer.call("abstain", "1")
    with pytest.raises(StoppedByHealth, match="by request 2x"):
        trainer.call("abstain", "abstain")


def test_abstentions_of_a_member_with_weight_0_stop_nothing() -> None:
    committee = Committee({"stated": ByName(weight=0.0)})
    trainer = Trainer(committee, bound=AbstentionBound(share=0.0, num_batches=1))
    assert trainer.call("abstain", "abstain") == {"stated": [None, None]}


def test_members_get_the_context_and_the_log_probabilities() -> None:
    vote = VotePartial(style="plain", scope="group", confidence=True, partial_until_step=6)
    trainer = Trainer(Committee({"vote": vote}))
    assert trainer.call("#### 42", "#### 41") == {"vote": [None, None]}  # no log-probabilities
    rewards = trainer.call("#### 42", "#### 41", completion_logprobs=[[-0.1], [-0.2]])
    assert rewards == {"vote": [2.0, 0.0]}  # step 7 of 9: partial credit has ended


def test_rows_without_the_columns_of_r1exp_are_refused() -> None:
    func = reward_funcs(Committee({"stated": ByName()}))[0]
    with pytest.raises(Refused, match=r"no column \['answer', 'id', 'question'\]"):
        func(prompts=["?"], completions=["1"], completion_ids=[[1]])


class Opened:
    """The scorer that a batch member opens; called once for each batch."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        self.calls.append(len(completions))
        return [float(completion.text) / 10 for completion in completions]


class InOneCall(BatchReward):
    kind: str = "in_one_call"

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def open(self) -> NoReturn:
        raise AssertionError("an opener was given")


def test_a_batch_member_is_opened_once_and_called_once_for_each_batch() -> None:
    opened, openings = Opened(), []

    def opener(reward: InOneCall) -> Opened:
        openings.append(reward)
        return opened

    committee = Committee({"model": InOneCall()}, openers={"in_one_call": opener})
    for _ in range(2):
        assert committee.score(*batch("1", "2", "3"), NOW) == {"model": [0.1, 0.2, 0.3]}
    assert opened.calls == [3, 3]
    assert len(openings) == 1


class Echo(JudgedReward):
    kind: str = "echo"

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def score_judged(
        self, completions: Sequence[Completion], right: Sequence[bool | Abstain], context: Context
    ) -> list[Score]:
        return [verdict if isinstance(verdict, Abstain) else float(verdict) for verdict in right]


def test_a_judged_member_gets_the_verdicts_of_the_member_it_names() -> None:
    committee = Committee({"echo": Echo(judged_by="right"), "right": Strict(style="plain", weight=0.0)})
    assert committee.score(*batch("#### 42", "#### 41"), NOW)["echo"] == [1.0, 0.0]


def test_only_the_maximum_of_the_judging_member_is_right() -> None:
    committee = Committee({"echo": Echo(judged_by="graded"), "graded": Graded(style="plain")})
    assert committee.score(*batch("#### 42", "#### 42.0"), NOW) == {"echo": [1.0, 0.0], "graded": [2.0, 1.5]}


class FakeWorkers:
    """Records the jobs of the worker processes and returns the given scores."""

    def __init__(self, *answers: Score) -> None:
        self.answers = list(answers)
        self.scored: list[str] = []

    def run(self, jobs: list[Job]) -> list[list[Score]]:
        self.scored += [job.completions[0].text for job in jobs]
        return [[self.answers.pop(0)] for _ in jobs]


class Careful(SlowReward):
    """A slow member whose score depends on the last word only."""

    kind: str = "careful"

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def cache_key(self, problem: Problem, completion: Completion) -> tuple[str, ...]:
        return (problem.id, completion.text.split()[-1])

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        raise AssertionError("scored by workers")


def test_scores_of_workers_are_cached_and_abstentions_are_not() -> None:
    committee = Committee({"right": Careful()})
    committee._pool = workers = FakeWorkers(TIMEOUT, 1.0)  # type: ignore[assignment]  # no processes
    problem = Problem("p", "p", r"\frac{1}{2}")
    rows = ([problem] * 2, [Completion(r"so \boxed{0.5}", 3), Completion(r"thus \boxed{0.5}", 3)], NOW)
    assert committee.score(*rows) == {"right": [TIMEOUT, TIMEOUT]}  # equal answers are scored once
    assert committee.score(*rows) == {"right": [1.0, 1.0]}
    assert committee.score(*rows) == {"right": [1.0, 1.0]}
    assert len(workers.scored) == 2


def test_a_judged_by_that_judges_no_correctness_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rewards.echo.judged_by=shape must name .* one of \['right'\]"):
        Committee(
            {"echo": Echo(judged_by="shape"), "shape": Format(style="plain"), "right": Strict(style="plain")}
        )
