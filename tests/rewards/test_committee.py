import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.base import NOT_APPLICABLE, Abstain, Context, Reward
from r1exp.rewards.committee import Committee
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format
from r1exp.rewards.vote_partial import VotePartial

NOW = Context()


class ByName(Reward):
    """Scores what its text says, and abstains where it says so."""

    kind: str = "by_name"

    @property
    def span(self):
        return (0.0, 9.0)

    def score(self, problem, completion, context):
        return Abstain("asked to") if completion.text == "abstain" else float(completion.text)


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


def test_rows_are_routed_by_their_columns() -> None:
    problems = [Problem("a", "a", "1", {"task": "math"}), Problem("b", "b", None, {"task": "chat"})]
    completions = [Completion("#### 1", 3), Completion("#### 1", 3)]
    committee = Committee({"right": Strict(style="plain", applies_to={"task": "math"})})
    assert committee.score(problems, completions, NOW) == {"right": [2.0, NOT_APPLICABLE]}


def test_a_committee_without_members_is_refused() -> None:
    with pytest.raises(ValueError, match="rewards=graded"):
        Committee({})


def called_as_trl_does(committee: Committee, *texts: str) -> dict[str, list[float | None]]:
    problems, completions = batch(*texts)
    rows = [problem.to_row([{"role": "user", "content": problem.prompt}]) for problem in problems]
    kwargs = {column: [row[column] for row in rows] for column in rows[0] if column != "prompt"}
    shared = {
        "prompts": [row["prompt"] for row in rows],
        "completions": [[{"role": "assistant", "content": answer.text}] for answer in completions],
        "completion_ids": [[1, 2, 3] for _ in completions],
        "trainer_state": None,
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
    return {reward.__name__: reward(**shared, **kwargs) for reward in reward_funcs(committee)}


def test_trl_gets_one_function_a_member() -> None:
    committee = Committee({"right": Strict(style="plain"), "shape": Format(style="plain")})
    assert called_as_trl_does(committee, "#### 42", "42") == {"right": [2.0, 2.0], "shape": [1.0, 0.0]}


def test_an_abstention_takes_the_mean_of_its_group() -> None:
    texts = ["1", "3", "abstain", "4", "abstain", "abstain"]
    assert called_as_trl_does(Committee({"said": ByName()}), *texts) == {
        "said": [1.0, 3.0, 4.0, 4.0, None, None]
    }
