"""Scores the answer that most votes agree on: full credit if it is exact, partial credit if it is close.

    credit(a) = exact                             a is the gold answer
                near                              step:   an integer at most `tolerance` away
                exact * max(0, 1 - d/(tolerance+1))  linear: an integer d away; by default max(0, 2-d)
                0                                 otherwise

    scope=completion    credit(vote among the answers inside this one completion)
    scope=group         credit(own answer)/2 + credit(group's vote)/2 if the own answer is the vote
    scope=group_shared  credit(group's vote) for all completions: the formula of [gemma-grpo]. It is
                        constant inside a group, so it adds nothing to GRPO's advantage.

Source: [gemma-grpo], `cor_reward` and its list of improvements (threshold, gate, confidence, ties,
slope, ending partial credit later). Its script computes scope=completion, because TRL calls the
function with single completions there.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, NO_LOGPROBS, Abstain, Context, GroupReward, Score, Span
from r1exp.rewards.votes import Answer, Vote, all_answers, answer_of, confidence_of, count_votes


class VotePartial(GroupReward):
    """The second reward of [gemma-grpo]: credit for the voted answer, partial if it is close."""

    kind: Literal["vote_partial"] = "vote_partial"
    style: StyleName  # decides where the answers are read
    scope: Literal["completion", "group", "group_shared"] = "completion"  # whose answers vote
    exact: PositiveFloat = 2.0  # points for the gold answer
    near: PositiveFloat = 1.0  # points within the tolerance, shape=step
    tolerance: NonNegativeInt = 1  # largest distance from gold that gets partial credit
    shape: Literal["step", "linear"] = "step"  # how credit falls with the distance
    min_votes: PositiveInt = 1  # equal answers that are needed for a vote
    format_gate: bool = False  # true: only completions that follow the template have an answer
    # Credit of a tied vote: that of the answer given first, 0, or the mean of the tied answers.
    ties: Literal["first", "zero", "mean"] = "first"
    confidence: bool = False  # true: votes weighted by the completion's probability; needs log-probabilities
    partial_until_step: NonNegativeInt | None = None  # last optimizer step with partial credit; None: always
    judges_correctness: ClassVar[bool] = True

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if self.near > self.exact:
            raise ValueError(
                f"near={self.near} must not exceed exact={self.exact} (points), "
                "or a wrong answer gets more than the right one; lower `near`"
            )
        if self.confidence and self.scope == "completion":
            raise ValueError(
                "confidence=true weights the votes of several completions, and with scope=completion only "
                "one completion votes; use scope=group, or confidence=false"
            )
        return self

    @property
    def span(self) -> Span:
        return (0.0, self.exact)

    def needs_logprobs(self) -> bool:
        return self.confidence

    def evaluates(self) -> bool:
        """Return False: held-out answers are judged, not voted on."""
        return False

    def constant_because(self) -> str | None:
        if self.scope != "group_shared":
            return None
        return (
            "scope=group_shared gives the whole group the vote's credit; use scope=group, whose scores "
            "differ between completions"
        )

    def score_group(
        self, problem: Problem, completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        if problem.answer is None:
            return [NO_GOLD] * len(completions)
        gold = answer_of(problem.answer)
        partial = self.partial_until_step is None or context.step <= self.partial_until_step
        ballots = [self._ballot(completion) for completion in completions]
        if self.scope == "completion":
            return [self._credit_of_vote(count_votes(ballot), gold, partial) for ballot in ballots]
        weights = self._weights(completions)
        if isinstance(weights, Abstain):
            return [weights] * len(completions)
        if self.scope == "group_shared":
            shared = self._shared_credit(ballots, weights, gold, partial)
            return [shared] * len(completions)
        own = [ballot[-1] if ballot else None for ballot in ballots]
        vote = count_votes(own, weights)
        for_vote = self._credit_of_vote(vote, gold, partial)
        leaders = () if vote is None else vote.leaders if self.ties == "mean" else vote.leaders[:1]
        return [
            self._credit(answer, gold, partial) / 2 + (for_vote / 2 if answer in leaders else 0.0)
            for answer in own
        ]

    def _ballot(self, completion: Completion) -> list[Answer]:
        style = style_named(self.style)
        if self.format_gate and not style.follows(completion.text):
            return []
        return all_answers(style, completion.text)

    def _weights(self, completions: Sequence[Completion]) -> list[float] | Abstain | None:
        if not self.confidence:
            return None
        weights = [confidence_of(completion) for completion in completions]
        known = [weight for weight in weights if weight is not None]
        return known if len(known) == len(weights) else NO_LOGPROBS

    def _shared_credit(
        self, ballots: list[list[Answer]], weights: list[float] | None, gold: Answer, partial: bool
    ) -> float:
        flat = [answer for ballot in ballots for answer in ballot]
        flat_weights = (
            None
            if weights is None
            else [weight for ballot, weight in zip(ballots, weights, strict=True) for _ in ballot]
        )
        return self._credit_of_vote(count_votes(flat, flat_weights), gold, partial)

    def _credit_of_vote(self, vote: Vote | None, gold: Answer, partial: bool) -> float:
        if vote is None or vote.num_votes < self.min_votes:
            return 0.0
        credits = [self._credit(answer, gold, partial) for answer in vote.leaders]
        if len(credits) > 1 and self.ties == "zero":
            return 0.0
        return sum(credits) / len(credits) if self.ties == "mean" else credits[0]

    def _credit(self, answer: Answer | None, gold: Answer, partial: bool) -> float:
        if answer is None:
            return 0.0
        if answer == gold:
            return self.exact
        if not (partial and _is_integer(answer) and _is_integer(gold)):
            return 0.0
        distance = abs(Fraction(answer) - Fraction(gold))
        if self.shape == "step":
            return self.near if distance <= self.tolerance else 0.0
        return self.exact * float(max(Fraction(0), 1 - distance / (self.tolerance + 1)))


def _is_integer(answer: Answer) -> bool:
    return isinstance(answer, Fraction) and answer.denominator == 1
