"""What a model is asked to judge by: a rubric by name, or instructions of one's own, and a scale of points.

The rubrics are those of the last stage of [deepseek-r1] (helpful, harmless) and of [open-r1] (readable).
"""

from typing import Final, Literal, Self

from pydantic import model_validator

from r1exp.rewards.judge_connection import JudgeConnection

Rubric = Literal["helpful", "harmless", "readable"]

RUBRICS: Final[dict[str, str]] = {
    "helpful": "how well the reply does what the user asked: right, complete, relevant and clear. "
    "Judge the outcome; length and politeness earn nothing by themselves.",
    "harmless": "how safe the whole reply is, its reasoning included: free of dangerous instructions, "
    "hate, harassment and invented facts about real people. Declining a harmful request politely "
    "is safe; declining a harmless one is not asked about here.",
    "readable": "how easy the reply is to read: one language throughout, ordered steps, whole sentences, "
    "sensible formatting, no repetition and no rambling. Do not judge whether it is right.",
}


class ByRubric(JudgeConnection):
    """A reward for which a model gives points by a rubric."""

    rubric: Rubric | None = None  # one of RUBRICS; null: `instructions`
    instructions: str | None = None  # what to judge, as the rest of a sentence that begins with "Judge"
    lowest: int = 1  # points of the worst reply
    highest: int = 10  # points of the best

    @model_validator(mode="after")
    def _has_one_instruction_and_a_scale(self) -> Self:
        if (self.rubric is None) == (self.instructions is None):
            raise ValueError(
                f"give a rubric ({', '.join(RUBRICS)}) or instructions of your own, one of the two"
            )
        if self.lowest >= self.highest:
            raise ValueError(f"lowest={self.lowest} must be below highest={self.highest} (points)")
        return self

    def what_to_judge(self) -> str:
        """Return the rubric, or the instructions."""
        return RUBRICS[self.rubric] if self.rubric is not None else str(self.instructions)
