"""Scores a completion with a trained reward model.

    x = (logit - center) / scale
    score = x                    normalization=none
            1 / (1 + exp(-x))    normalization=sigmoid: a Bradley-Terry model's chance to beat `center`

The model is a sequence classifier with one output, as TRL's RewardTrainer saves it. This module has only
the settings; the code that loads and runs the model needs torch and is in `r1exp.model.scorer`, which
the training process passes to the committee (`Committee(..., openers={"reward_model": ...})`).
Source: InstructGPT (arXiv:2203.02155); [deepseek-r1].
"""

import math
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from r1exp.errors import R1ExpError
from r1exp.rewards.base import Abstain, BatchReward, BatchScorer, Score, Span
from r1exp.settings import Name

NOT_FINITE = Abstain("score not finite")


class RewardModel(BatchReward):
    """A trained scorer: a model of helpfulness or harmlessness, or any preference model."""

    kind: Literal["reward_model"] = "reward_model"
    model: Name  # hub id or folder of a sequence classifier with one label
    batch_size: PositiveInt = 16  # completions in one forward pass
    max_length: PositiveInt = 2048  # tokens of prompt and completion; longer ones lose their beginning
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of the weights
    normalization: Literal["none", "sigmoid"] = "sigmoid"  # how scores are scaled before they are weighted
    center: float = 0.0  # logit that becomes 0 (none) or 1/2 (sigmoid)
    scale: PositiveFloat = 1.0  # logits that are one unit of x

    @property
    def span(self) -> Span:
        return (0.0, 1.0) if self.normalization == "sigmoid" else (-math.inf, math.inf)

    def other_models(self) -> dict[str, str]:
        """Return the model that scores."""
        return {"model": self.model}

    def models_on_device(self) -> dict[str, int]:
        """Return the model that scores, which every rank has on its device."""
        return {self.model: 4 if self.dtype == "float32" else 2}

    def needs_beyond_one_text(self) -> str | None:
        """Return that it needs a model."""
        return "a model that the training process loads"

    def open(self) -> BatchScorer:
        raise R1ExpError(
            f"the reward model {self.model!r} is loaded by the training process only; "
            "this committee has no opener for the kind reward_model"
        )

    def normalized(self, logit: float) -> Score:
        """Return the score for the model's output; abstain if the output is not finite."""
        if not math.isfinite(logit):
            return NOT_FINITE
        x = (logit - self.center) / self.scale
        if self.normalization == "none":
            return x
        return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
