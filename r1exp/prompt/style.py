r"""Answer styles: write reasoning and answer as a completion, and read them from a completion.

Three formats:
    tagged   <think>reasoning</think>\n<answer>answer</answer>    (three pairs of names)
    boxed    reasoning\n\boxed{answer}
    plain    reasoning\n#### answer

Tags are ordinary text for every tokenizer, because special tokens are dropped when a completion is decoded.
Sources: DeepSeek-R1 (arXiv:2501.12948, table 1) for think/answer; [rlhf], [gemma-grpo] and [sft-grpo] for
reasoning/answer; [deepseek-r1] for reasoning_process/summary; MATH (arXiv:2103.03874) for `\boxed`; GSM8K
(arXiv:2110.14168) for `####`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from r1exp.errors import Refused
from r1exp.plugins import path_of, paths_of
from r1exp.registry import load
from r1exp.settings import nearest


@dataclass(frozen=True, slots=True)
class Style(ABC):
    """A format of completions; `tags` are in the order in which they appear."""

    name: str
    tags: tuple[str, ...] = ()

    @abstractmethod
    def follows(self, text: str) -> bool:
        """Return whether the whole text, except for whitespace around it, has this style's format."""

    @abstractmethod
    def read_answers(self, text: str) -> list[str]:
        """Return all answers in this style's format, in order, stripped."""

    @abstractmethod
    def read_reasoning(self, text: str) -> str | None:
        """Return the reasoning, stripped, or None if the text has none in this style's format."""

    @abstractmethod
    def join(self, reasoning: str, answer: str) -> str:
        """Return a completion in this style's format."""

    def read_answer(self, text: str) -> str | None:
        """Return the last answer in this style's format, stripped, or None if there is none."""
        answers = self.read_answers(text)
        return answers[-1] if answers else None

    def write(self, reasoning: str, answer: str) -> str:
        """Return a gold completion; reasoning that is already one with this answer is returned unchanged.

        Raises:
            Refused: reading the completion would not return `answer`, for example because the reasoning
                contains the style's tags.
        """
        reasoning, answer = reasoning.strip(), answer.strip()
        if self._reads_as(reasoning, answer):
            return reasoning
        text = self.join(reasoning, answer)
        if not self._reads_as(text, answer):
            raise Refused(
                f"the solution {_shortened(reasoning)!r} with the answer {_shortened(answer)!r} cannot be "
                f"written in prompt style {self.name!r}: it would be read back as "
                f"{self.read_answer(text)!r}, for it holds the style's own marks; take them out of the "
                "data, or choose another style with prompt=..."
            )
        return text

    def _reads_as(self, text: str, answer: str) -> bool:
        return self.follows(text) and self.read_answer(text) == answer


@dataclass(frozen=True, slots=True)
class Tagged(Style):
    """Reasoning and answer, each in a pair of tags."""

    def follows(self, text: str) -> bool:
        """Return whether the text has the four tags, each once and in order, and no text outside them."""
        text = text.strip()
        if any(text.count(tag) != 1 for tag in self.tags):
            return False
        starts = [text.index(tag) for tag in self.tags]
        between = text[starts[1] + len(self.tags[1]) : starts[2]]
        ends_with_tag = starts[3] + len(self.tags[3]) == len(text)
        return starts[0] == 0 and starts == sorted(starts) and not between.strip() and ends_with_tag

    def read_answers(self, text: str) -> list[str]:
        return list(_between(text, self.tags[2], self.tags[3]))

    def read_reasoning(self, text: str) -> str | None:
        parts = list(_between(text, self.tags[0], self.tags[1]))
        return parts[-1] if parts else None

    def join(self, reasoning: str, answer: str) -> str:
        think, end_think, tag, end_tag = self.tags
        return f"{think}{reasoning}{end_think}\n{tag}{answer}{end_tag}"


@dataclass(frozen=True, slots=True)
class Boxed(Style):
    r"""The answer in LaTeX's \boxed{...}, with balanced braces."""

    def follows(self, text: str) -> bool:
        r"""Return whether the text contains a complete \boxed{...}."""
        return bool(_boxes(text))

    def read_answers(self, text: str) -> list[str]:
        return [text[start:end].strip() for _, start, end in _boxes(text)]

    def read_reasoning(self, text: str) -> str | None:
        boxes = _boxes(text)
        return text[: boxes[-1][0]].strip() if boxes else None

    def join(self, reasoning: str, answer: str) -> str:
        return f"{reasoning}\n\\boxed{{{answer}}}"


@dataclass(frozen=True, slots=True)
class Plain(Style):
    """No tags; the answer is on the last line after `####`, as in GSM8K."""

    def follows(self, text: str) -> bool:
        """Return whether the last line of the text is `#### answer`."""
        last_line = text.strip().rpartition("\n")[2]
        return re.fullmatch(r"\s*####[ \t]*[^\s#].*", last_line) is not None

    def read_answers(self, text: str) -> list[str]:
        parts = (part.strip() for part in re.split("#{4,}", text)[1:])
        return [part.partition("\n")[0].strip() for part in parts if part]

    def read_reasoning(self, text: str) -> str | None:
        before, mark, _ = text.rpartition("####")
        return before.strip() if mark else None

    def join(self, reasoning: str, answer: str) -> str:
        return f"{reasoning}\n#### {answer}"


STYLES: dict[str, Style] = {
    "think_answer": Tagged("think_answer", ("<think>", "</think>", "<answer>", "</answer>")),
    "reasoning_answer": Tagged("reasoning_answer", ("<reasoning>", "</reasoning>", "<answer>", "</answer>")),
    "reasoning_summary": Tagged(
        "reasoning_summary",
        ("<reasoning_process>", "</reasoning_process>", "<summary>", "</summary>"),
    ),
    "boxed": Boxed("boxed"),
    "plain": Plain("plain"),
}


@cache
def style_named(name: str) -> Style:
    """Return the style that `prompt.style` names.

    Args:
        name: Of a style of r1exp or of a plugin, or `package.module:NAME` of a `Style` object of your own.

    Raises:
        ValueError: there is no such style, or the object is no `Style`.
    """
    paths = paths_of("prompt", dict.fromkeys(STYLES, __name__))
    if name not in paths and ":" not in name:
        close = nearest(name, paths)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"there is no style {name!r}.{hint} Styles: {', '.join(paths)}, or package.module:NAME of your own"
        )
    path = path_of(name, paths)
    found = STYLES[name] if path == __name__ else load(path)
    if not isinstance(found, Style):
        raise ValueError(
            f"{name} is a {type(found).__name__}, and a style must be an object of r1exp.prompt.style:Style"
        )
    return found


def _between(text: str, opening: str, closing: str) -> Iterator[str]:
    """Yield the text in each innermost pair of opening and closing; linear in the text's length."""
    position = 0
    while (end := text.find(closing, position)) >= 0:
        start = text.rfind(opening, position, end)
        if start >= 0:
            yield text[start + len(opening) : end].strip()
        position = end + len(closing)


def _boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Return (start of `\boxed`, start of its content, end of its content) of every innermost box."""
    boxes: list[tuple[int, int, int]] = []
    open_braces: list[tuple[int, int] | None] = []  # None: a brace that does not open a box
    for mark in re.finditer(r"\\boxed\s*\{|\\.|[{}]", text, re.DOTALL):
        if mark[0].startswith("\\boxed"):
            open_braces.append((mark.start(), mark.end()))
        elif mark[0] == "{":
            open_braces.append(None)
        elif mark[0] == "}" and open_braces:
            box = open_braces.pop()
            holds_a_box = box is not None and bool(boxes) and boxes[-1][0] > box[0]
            if box is not None and not holds_a_box:
                boxes.append((*box, mark.start()))
    return boxes


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
