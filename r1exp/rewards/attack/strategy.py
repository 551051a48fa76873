"""A strategy of an attack: which pieces it uses, the completion that it writes for a prompt, and its neighbors."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from r1exp.prompt.style import Style
from r1exp.rewards.attack.pieces import (
    ANSWERS,
    HONEST_ANSWER,
    HONEST_REASONING,
    HONEST_SHAPE,
    ONE_ANSWER,
    PROGRAMS,
    REASONING,
    SHAPES,
    Piece,
)

_MOST_PIECES = 3  # of reasoning, and of answers
_STARTS = (None, 8, 16, 32, 64, 128)  # characters of the reasoning that are written
_MOST_TIMES = 64  # that the reasoning is repeated


@dataclass(frozen=True, slots=True)
class Strategy:
    """What a policy could write for every prompt, without knowing the answer. The default is an honest mistake."""

    reasoning: tuple[str, ...] = (HONEST_REASONING,)  # keys of REASONING, in order
    answers: tuple[str, ...] = (HONEST_ANSWER,)  # keys of the answers, in order
    shape: str = HONEST_SHAPE  # key of SHAPES
    times: int = 1  # how often the reasoning is written
    start: int | None = None  # characters of the reasoning that are written; None: all
    overlong: bool = False  # whether it may be longer than the limit, where it is cut off

    def write(self, prompt: str, style: Style, answers: Mapping[str, Piece], room: int | None = None) -> str:
        """Return the completion for `prompt`.

        Args:
            prompt: The problem's.
            style: The prompt's.
            answers: The pieces that its answers are keys of.
            room: Characters that a completion may have. Reasoning that does not fit is shortened, then the answers,
                so that the completion ends as its form does: a policy learns to finish within the limit.
        """
        reasoning = "\n".join(REASONING[name].text(prompt) for name in self.reasoning)
        written = [answers[name].text(prompt) for name in self.answers]
        repeated = "\n".join([reasoning] * self.times)[: self.start]
        shape = SHAPES[self.shape]
        text = shape.write(style, repeated, written)
        if room is None or self.overlong or len(text) <= room:
            return text
        kept = _longest(lambda length: shape.write(style, repeated[:length], written), len(repeated), room)
        if kept is not None:
            return kept
        most = max(map(len, written))
        shortened = _longest(lambda length: shape.write(style, "", _cut(written, length)), most, room)
        return text if shortened is None else shortened

    def deviations(self) -> list[str]:
        """Return in words how the strategy differs from an honest mistake."""
        found = [f"reasoning: {name}" for name in self.reasoning if name != HONEST_REASONING]
        found += [f"answer: {name}" for name in self.answers if name != HONEST_ANSWER]
        if self.shape != HONEST_SHAPE:
            found.append(f"form: {self.shape}")
        if self.times > 1:
            found.append(f"reasoning written {self.times} times")
        if self.start is not None:
            found.append(f"only {self.start} characters of the reasoning")
        if self.overlong:
            found.append("form: longer than the limit")
        return list(dict.fromkeys(found))

    def closed_by(self, answers: Mapping[str, Piece]) -> list[str]:
        """Return what would close an exploit with this strategy."""
        pieces = [
            *(answers[name].closed_by for name in self.answers),
            SHAPES[self.shape].closed_by,
            *(REASONING[name].closed_by for name in self.reasoning),
        ]
        if self.times > 1 or self.overlong:
            pieces.append(REASONING["several sentences"].closed_by)
        return list(dict.fromkeys(piece for piece in pieces if piece))

    def simpler(self) -> Iterator["Strategy"]:
        """Yield the strategies with one deviation less."""
        if self.shape != HONEST_SHAPE:
            yield replace(self, shape=HONEST_SHAPE)
        if self.overlong:
            yield replace(self, overlong=False)
        if self.start is not None:
            yield replace(self, start=None)
        if self.times > 1:
            yield replace(self, times=1)
            yield replace(self, times=self.times // 2)
        if self.reasoning != (HONEST_REASONING,):
            yield replace(self, reasoning=(HONEST_REASONING,))
            yield from (
                replace(self, reasoning=self.reasoning[:position] + self.reasoning[position + 1 :])
                for position in range(len(self.reasoning))
                if len(self.reasoning) > 1
            )
        if self.answers != (HONEST_ANSWER,):
            yield replace(self, answers=(HONEST_ANSWER,))
            yield from (
                replace(self, answers=self.answers[:position] + self.answers[position + 1 :])
                for position in range(len(self.answers))
                if len(self.answers) > 1
            )

    def changed(self, random_state: random.Random, answers: Mapping[str, Piece]) -> "Strategy":
        """Return a neighbor: one piece added, removed or replaced."""
        kind = random_state.choice(
            ("reasoning", "reasoning", "answers", "answers", "shape", "times", "start", "overlong")
        )
        if kind == "shape":
            return replace(self, shape=random_state.choice(list(SHAPES)))
        if kind == "times":
            return replace(self, times=min(_MOST_TIMES, self.times * random_state.choice((2, 4))))
        if kind == "start":
            return replace(self, start=random_state.choice(_STARTS))
        if kind == "overlong":
            return replace(self, overlong=not self.overlong)
        if kind == "reasoning":
            return replace(self, reasoning=_changed(self.reasoning, list(REASONING), random_state))
        return replace(self, answers=_changed(self.answers, list(answers), random_state))

    def crossed_with(self, other: "Strategy", random_state: random.Random) -> "Strategy":
        """Return a strategy with each part from one of the two."""
        first, second = (self, other) if random_state.random() < 0.5 else (other, self)
        return Strategy(
            first.reasoning,
            second.answers,
            random_state.choice((self.shape, other.shape)),
            random_state.choice((self.times, other.times)),
            first.start,
            random_state.choice((self.overlong, other.overlong)),
        )


def _cut(answers: Sequence[str], length: int) -> list[str]:
    return [answer[:length] for answer in answers]


def _longest(write: Callable[[int], str], most: int, room: int) -> str | None:
    """Return the longest of the texts `write(0)` to `write(most)` that fits into `room`, or None if none does."""
    fitting = bisect_right(range(most + 1), room, key=lambda length: len(write(length)))
    return write(fitting - 1) if fitting else None


def _changed(pieces: tuple[str, ...], names: list[str], random_state: random.Random) -> tuple[str, ...]:
    """Return `pieces` with one of `names` added or in the place of another, or with one less."""
    new = random_state.choice(names)
    action = random_state.choice(("add", "remove", "replace"))
    if action == "add" and len(pieces) < _MOST_PIECES:
        position = random_state.randrange(len(pieces) + 1)
        return (*pieces[:position], new, *pieces[position:])
    position = random_state.randrange(len(pieces))
    if action == "remove" and len(pieces) > 1:
        return (*pieces[:position], *pieces[position + 1 :])
    return (*pieces[:position], new, *pieces[position + 1 :])


HONEST_MISTAKES = (
    Strategy(),
    Strategy(reasoning=("several sentences",)),
    Strategy(answers=("the prompt's last number",)),
)
HONEST_PROGRAM = Strategy(
    answers=("a program that prints 0",)
)  # the honest mistake where programs are asked for


def single_deviations(answers: Mapping[str, Piece]) -> list[Strategy]:
    """Return every strategy that differs from an honest mistake in one piece."""
    return [
        *(Strategy(answers=(name,)) for name in answers if name != HONEST_ANSWER),
        *(Strategy(shape=name) for name in SHAPES if name != HONEST_SHAPE),
        *(Strategy(reasoning=(name,)) for name in REASONING if name != HONEST_REASONING),
        Strategy(reasoning=("a very long text",), overlong=True),
    ]


def shaped_hedges(answers: Mapping[str, Piece]) -> list[Strategy]:
    """Return every answer that is several at once in every shape; often neither scores well by itself."""
    return [
        Strategy(answers=(name,), shape=shape)
        for name, piece in answers.items()
        for shape in SHAPES
        if piece.closed_by == ONE_ANSWER and shape != HONEST_SHAPE
    ]


ALL_ANSWERS = ANSWERS | PROGRAMS  # a reward of one's own may run programs too
