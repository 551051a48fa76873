"""Rewards that depend on the number of tokens n of a completion.

    length         l = 1/2 - (n - min)/(max - min) over the group; right: l, wrong: min(0, l); 0 if max = min
                   (Kimi k1.5, section 2.3.3, arXiv:2501.12599)
    kimi_length    the same, and 0 for all before optimizer step `from_step`: the paper trains without it at first
    cosine         long + (short - long) * (1 + cos(pi * n/max_length)) / 2, with one pair of corner
                   values for right and one for wrong completions
                   (Demystifying Long Chain-of-Thought, appendix C.1, arXiv:2502.03373)
    soft_overlong  0 until limit - margin, then a straight line down to -1 at the limit
                   (DAPO, eq. 13, arXiv:2503.14476)
    soft_overlong_punishment  the same, with the names of the paper: limit = L_max, margin = L_cache

Another member (`judged_by`) decides which completions are right. The default corner values follow
[open-r1]: a wrong completion loses more the longer it is. The paper and the open-r1 code have the
opposite, so that the policy may explore longer reasoning: wrong_short=-1 wrong_long=-0.5.
"""

import math
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, JudgedReward, Reward, Score, Span


class Length(JudgedReward):
    """Rewards completions that are shorter than the others of their group."""

    kind: Literal["length"] = "length"

    @property
    def span(self) -> Span:
        return (-0.5, 0.5)

    def score_judged(
        self, completions: Sequence[Completion], right: Sequence[bool | Abstain], context: Context
    ) -> list[Score]:
        del context
        shortest = min(completion.num_tokens for completion in completions)
        spread = max(completion.num_tokens for completion in completions) - shortest
        scores: list[Score] = []
        for completion, verdict in zip(completions, right, strict=True):
            line = 0.5 - (completion.num_tokens - shortest) / spread if spread else 0.0
            scores.append(verdict if isinstance(verdict, Abstain) else line if verdict else min(0.0, line))
        return scores


class KimiLength(Length):
    """Kimi k1.5's length reward, which its paper adds only after a first phase of training."""

    kind: Literal["kimi_length"] = "kimi_length"  # type: ignore[assignment] # a kind of its own
    from_step: NonNegativeInt = 0  # optimizer steps without it; all completions score 0 there

    def score_judged(
        self, completions: Sequence[Completion], right: Sequence[bool | Abstain], context: Context
    ) -> list[Score]:
        if context.step < self.from_step:
            return [0.0] * len(completions)
        return super().score_judged(completions, right, context)


class Cosine(JudgedReward):
    """Rewards completions that are short relative to a fixed length."""

    kind: Literal["cosine"] = "cosine"
    max_length: PositiveInt  # tokens; longer completions count as this long
    right_short: float = 1.0  # score of a right completion of no tokens
    right_long: float = 0.5  # score of a right completion of max_length tokens
    wrong_short: float = -0.5  # score of a wrong completion of no tokens
    wrong_long: float = -1.0  # score of a wrong completion of max_length tokens

    @model_validator(mode="after")
    def _right_scores_more_than_wrong(self) -> Self:
        if min(self.right_short, self.right_long) <= max(self.wrong_short, self.wrong_long):
            raise ValueError(
                f"the worst right completion scores {min(self.right_short, self.right_long)} and the best wrong "
                f"one {max(self.wrong_short, self.wrong_long)}: every right one must score more; raise "
                "right_short and right_long, or lower wrong_short and wrong_long"
            )
        return self

    @property
    def span(self) -> Span:
        corners = (self.right_short, self.right_long, self.wrong_short, self.wrong_long)
        return (min(corners), max(corners))

    def score_judged(
        self, completions: Sequence[Completion], right: Sequence[bool | Abstain], context: Context
    ) -> list[Score]:
        del context
        return [
            verdict if isinstance(verdict, Abstain) else self._cosine(completion.num_tokens, verdict)
            for completion, verdict in zip(completions, right, strict=True)
        ]

    def _cosine(self, num_tokens: int, right: bool) -> float:
        short, long = (self.right_short, self.right_long) if right else (self.wrong_short, self.wrong_long)
        progress = min(num_tokens / self.max_length, 1.0)
        return long + (short - long) * (1.0 + math.cos(math.pi * progress)) / 2.0


class SoftOverlong(Reward):
    """A penalty that grows when a completion comes close to the limit on its length."""

    kind: Literal["soft_overlong"] = "soft_overlong"
    limit: PositiveInt  # tokens; where sampling ends
    margin: PositiveInt  # tokens before the limit over which the penalty grows

    @model_validator(mode="after")
    def _margin_fits_inside_limit(self) -> Self:
        if self.margin >= self.limit:
            raise ValueError(
                f"margin={self.margin} must be smaller than limit={self.limit} (both in tokens), or even an "
                "empty completion gets a penalty; lower rewards.soft_overlong.margin"
            )
        return self

    @property
    def span(self) -> Span:
        return (-1.0, 0.0)

    def needs_beyond_one_text(self) -> str | None:
        """Return that it counts tokens."""
        return "the number of tokens"

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        return _overlong(completion.num_tokens, self.limit, self.margin)


class SoftOverlongPunishment(Reward):
    """DAPO's soft overlong punishment, with the paper's names."""

    kind: Literal["soft_overlong_punishment"] = "soft_overlong_punishment"
    l_max: PositiveInt  # tokens; where sampling ends (20,480 in the paper)
    l_cache: PositiveInt  # tokens before l_max over which the penalty grows (4,096 in the paper)

    @model_validator(mode="after")
    def _cache_fits_inside_max(self) -> Self:
        if self.l_cache >= self.l_max:
            raise ValueError(
                f"l_cache={self.l_cache} must be smaller than l_max={self.l_max} (both in tokens), or even an "
                "empty completion gets a penalty; lower l_cache"
            )
        return self

    @property
    def span(self) -> Span:
        return (-1.0, 0.0)

    def needs_beyond_one_text(self) -> str | None:
        """Return that it counts tokens."""
        return "the number of tokens"

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        return _overlong(completion.num_tokens, self.l_max, self.l_cache)


def _overlong(num_tokens: int, limit: int, margin: int) -> float:
    """Return DAPO's penalty: 0 until limit - margin, then a straight line down to -1 at the limit."""
    room = limit - margin - num_tokens  # negative inside the margin
    return min(max(room / margin, -1.0), 0.0)
