"""A preference pair in the form that TRL's trainers read: conversational, the prompt apart from its two answers."""

from typing import Any

from r1exp.prompt.chat import messages
from r1exp.prompt.settings import PromptSettings
from r1exp.records import Message, Problem


def pair_row(problem: Problem, prompt: PromptSettings | None) -> dict[str, list[Message]]:
    """Return the row of a problem of dataset=preference.

    Args:
        problem: With the columns `chosen` and `rejected`.
        prompt: How the policy is asked; None: the question alone, as a reward model reads it.
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
