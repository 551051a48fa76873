"""Writes the rows that stage=sft learns from, and counts those that are too long to be learned whole. Torch-free.

TRL cuts a row at `trainer.max_length` tokens and drops it where only the prompt is left. What is cut is the end of the
answer, so that a model would learn to stop in the middle of it: here a row is learned whole or not at all.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from r1exp.errors import Refused
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.style import style_named
from r1exp.records import Message, Problem
from r1exp.stage.step_settings import StepSettings

TooLong = Literal["refuse", "drop"]
Row = dict[str, list[Message]]
_TEMPLATE_BYTES = 256  # a chat template adds less to each message
_DEFAULT_MAX_LENGTH = 1024  # tokens; TRL 1.16's SFTConfig


def demonstration(problem: Problem, config: StepSettings) -> Row:
    """Return a conversational prompt-completion row: the worked solution and the gold answer in the prompt's style.

    The answer of a chat is learned as it is.

    Raises:
        Refused: a problem has no solution or no answer.
    """
    text = problem.completion
    if text is None:
        solution = problem.columns.get("solution")
        if solution is None or problem.answer is None:
            missing = "solution" if solution is None else "answer"
            raise Refused(
                f"problem {problem.id!r} has no {missing}, which stage=sft learns from; "
                "use a data set with worked solutions"
            )
        text = style_named(config.prompt.style).write(str(solution), problem.answer)
    return {
        "prompt": prompt_of(problem, config.prompt),
        "completion": [{"role": "assistant", "content": text}],
    }


class FittingRows:
    """The rows that can be learned whole. While it is iterated, it counts them and the others."""

    def __init__(
        self, problems: Iterable[Problem], config: StepSettings, count: Callable[[list[Message]], int]
    ) -> None:
        """Prepare to read `problems`.

        Args:
            problems: Read once.
            config: Settings of the step.
            count: Returns the number of tokens of a whole conversation.
        """
        self._problems = problems
        self._config = config
        self._count = count
        self.max_length = max_length_of(config)  # tokens
        self.num_rows = 0
        self.num_too_long = 0
        self.longest = 0  # tokens
        self._first = ""  # id of the first row that is too long

    def __iter__(self) -> Iterator[Row]:
        for problem in self._problems:
            row = demonstration(problem, self._config)
            conversation = row["prompt"] + row["completion"]
            self.num_rows += 1
            if self.max_length is not None:
                # A token has at least one byte, so that a row with few enough bytes fits without being tokenized.
                size = sum(len(message["content"].encode()) + _TEMPLATE_BYTES for message in conversation)
                length = 0 if size <= self.max_length else self._count(conversation)
                if length > self.max_length:
                    self._first = self._first or problem.id
                    self.num_too_long += 1
                    self.longest = max(self.longest, length)
                    continue
            yield row

    @property
    def num_fitting(self) -> int:
        """Rows that can be learned whole."""
        return self.num_rows - self.num_too_long

    def summary(self) -> str:
        """Return how many rows are too long."""
        return (
            f"{self.num_too_long} of {self.num_rows} training rows have more than trainer.max_length={self.max_length} "
            f"tokens (the longest has {self.longest})"
        )

    def refuse(self, too_long: TooLong, num_needed: int) -> None:
        """Raise Refused where the settings do not say that rows are dropped, or where too few would be left."""
        if self.num_too_long == 0:
            return
        if too_long == "refuse":
            raise Refused(
                f"{self.summary()}, so that the end of their answers would be cut, first that of problem {self._first!r}; "
                f"raise trainer.max_length to {self.longest}, or leave these rows out with stage.too_long=drop"
            )
        if self.num_fitting < num_needed:
            raise Refused(
                f"{self.summary()}; stage.too_long=drop leaves {self.num_fitting}, fewer than the {num_needed} of one optimizer "
                f"step; raise trainer.max_length to {self.longest}"
            )


def max_length_of(config: StepSettings) -> int | None:
    """Return the length at which TRL cuts rows, or None if it cuts none or goes on with the rest in another row."""
    trainer = config.trainer
    if trainer.get("packing") and trainer.get("packing_strategy") in ("bfd_split", "bfd-requeue", "wrapped"):
        return None
    length = trainer.get("max_length", _DEFAULT_MAX_LENGTH)
    return None if length is None else int(length)
