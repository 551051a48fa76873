"""Separates the reasoning of a completion from the answer that follows it, and puts the two together again.

Reasoning stands between `<think>` and `</think>` or the first two tags of the prompt's style. The opening tag may be missing:
the chat templates of several models write it into the prompt.
"""

from r1exp.prompt.style import Style, Tagged

_THINK = ("<think>", "</think>")


def split_reasoning(text: str, style: Style) -> tuple[str | None, str]:
    """Return the reasoning, stripped, or None, and the text after it.

    Args:
        text: A completion.
        style: The prompt's.
    """
    for opening, closing in {_tags(style), _THINK}:
        before, found, after = text.partition(closing)
        if found:
            start, _, reasoning = before.rpartition(opening)
            if not start.strip():
                return reasoning.strip(), after.lstrip()
    return None, text


def joined(reasoning: str | None, text: str, style: Style) -> str:
    """Return a completion with its reasoning in the style's tags; in `<think>` where the style has none."""
    if reasoning is None:
        return text
    opening, closing = _tags(style)
    return f"{opening}{reasoning}{closing}\n{text}"


def _tags(style: Style) -> tuple[str, str]:
    return (style.tags[0], style.tags[1]) if isinstance(style, Tagged) else _THINK
