"""Converts preference pairs and labelled answers to the form that TRL's trainers read: conversational, with an explicit prompt."""

from collections.abc import Iterator
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
    question = _question(problem, prompt)
    return {
        "prompt": question,
        "chosen": _answer(problem.columns["chosen"]),
        "rejected": _answer(problem.columns["rejected"]),
    }


def labelled_rows(problem: Problem, prompt: PromptSettings) -> Iterator[dict[str, Any]]:
    """Yield the row of a labelled answer, or the good and the bad one of a pair.

    Args:
        problem: A problem with the columns `completion` and `label`, or `chosen` and `rejected`.
        prompt: Prompt settings of the policy.
    """
    columns = problem.columns
    answers = [(columns["completion"], columns["label"])] if "label" in columns else []
    for text, label in answers or [(columns["chosen"], True), (columns["rejected"], False)]:
        yield {"prompt": _question(problem, prompt), "completion": _answer(text), "label": label}


def _question(problem: Problem, prompt: PromptSettings | None) -> list[Message]:
    return (
        [{"role": "user", "content": problem.prompt}] if prompt is None else messages(problem.prompt, prompt)
    )


def _answer(text: Any) -> list[Message]:
    return [{"role": "assistant", "content": str(text)}]
