"""Converts a preference pair to the form that TRL's trainers read: conversational, with an explicit prompt."""

from typing import Any

from r1exp.prompt.chat import messages
from r1exp.prompt.settings import PromptSettings
from r1exp.records import Message, Problem


def pair_row(problem: Problem, prompt: PromptSettings | None) -> dict[str, list[Message]]:
    """Return the row of a problem of dataset=preference.

    Args:
        problem: A problem with the columns `chosen` and `rejected`.
        prompt: Prompt settings of the policy; None: the question alone, as a reward model reads it.
    """
    question = (
        [{"role": "user", "content": problem.prompt}] if prompt is None else messages(problem.prompt, prompt)
    )
    return {
        "prompt": question,
        "chosen": _answer(problem.columns["chosen"]),
        "rejected": _answer(problem.columns["rejected"]),
    }


def _answer(text: Any) -> list[Message]:
    return [{"role": "assistant", "content": str(text)}]
