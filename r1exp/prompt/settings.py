"""Which words stand before the question, and in which style the answer is expected."""

from typing import Literal

from r1exp.settings import Settings

StyleName = Literal["think_answer", "reasoning_answer", "reasoning_summary", "boxed", "plain"]


class PromptSettings(Settings):
    """How every problem is put to the model."""

    style: StyleName
    system: str  # system text; "" sends no system message
