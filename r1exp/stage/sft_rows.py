"""Writes the rows that stage=sft learns from, and counts those that are too long to be learned whole. Torch-free.

A row is a conversation and the positions of the assistant's turns that the loss covers:

    a problem                its worked solution, in the prompt's style
    a chat, `all`            every turn of the assistant, in one row
    a chat, `each`           every turn of the assistant, each in a row of its own that ends with it
    a chat, `last`           the last turn

TRL cuts a row at `trainer.max_length` tokens and drops it where only the prompt is left. What is cut is the end of the
answer, so that a model would learn to stop in the middle of it: here a row is learned whole or not at all.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, TypedDict

from r1exp.errors import Refused
from r1exp.model.turns import ChatTokenizer, TurnRewrittenError
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.style import style_named
from r1exp.records import Message, Problem
from r1exp.stage.step_settings import StepSettings

TooLong = Literal["refuse", "drop"]
ChatTurns = Literal["all", "each", "last"]
_TEMPLATE_BYTES = 256  # a chat template adds less to each message
_DEFAULT_MAX_LENGTH = 1024  # tokens; TRL 1.16's SFTConfig


class Row(TypedDict):
    """What a trainer is given."""

    messages: list[Message]
    learned: list[int]  # positions of the turns that the loss covers


def demonstrations(problem: Problem, config: StepSettings, chat_turns: ChatTurns) -> list[Row]:
    """Return the rows of a problem or chat: one, or with `each` one for each turn of the assistant.

    The earlier turns of a problem with a worked solution belong to its question, and are not learned.

    Raises:
        Refused: a problem has no solution or no answer.
    """
    messages = [
        *prompt_of(problem, config.prompt),
        {"role": "assistant", "content": _answer(problem, config)},
    ]
    last = len(messages) - 1
    learned = [last]
    if problem.completion is not None and chat_turns != "last":
        learned = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if chat_turns == "each":
        return [{"messages": messages[: turn + 1], "learned": [turn]} for turn in learned]
    return [{"messages": messages, "learned": learned}]


def _answer(problem: Problem, config: StepSettings) -> str:
    """Return the last turn of the assistant."""
    if problem.completion is not None:
        return problem.completion
    solution = problem.columns.get("solution")
    if solution is None or problem.answer is None:
        missing = "solution" if solution is None else "answer"
        raise Refused(
            f"problem {problem.id!r} has no {missing}, which stage=sft learns from; "
            "use a data set with worked solutions"
        )
    return style_named(config.prompt.style).write(str(solution), problem.answer)


class FittingRows:
    """The rows that can be learned whole. While it is iterated, it counts them and the others."""

    def __init__(
        self,
        problems: Iterable[Problem],
        config: StepSettings,
        chat_turns: ChatTurns,
        tokenizer: ChatTokenizer | None,
        *,
        every_token: bool = False,
    ) -> None:
        """Prepare to read `problems`.

        Args:
            problems: Read once.
            config: Settings of the step.
            chat_turns: Which turns of a chat are learned.
            tokenizer: That of the policy; None: it is not known yet, and every row fits.
            every_token: Whether the loss covers the prompts too, so that no turn need be found.
        """
        self._problems = problems
        self._config = config
        self._chat_turns = chat_turns
        self._tokenizer = tokenizer
        self._every_token = every_token
        self.max_length = max_length_of(config)  # tokens
        self.num_rows = 0
        self.num_chats = 0  # conversations that end with a turn of the assistant
        self.num_turns = 0  # turns of the assistant that are learned, in rows that fit
        self.num_too_long = 0
        self.longest = 0  # tokens
        self._first = ""  # id of the first row that is too long

    def __iter__(self) -> Iterator[Row]:
        for problem in self._problems:
            self.num_chats += problem.completion is not None
            for row in demonstrations(problem, self._config, self._chat_turns):
                self.num_rows += 1
                length = self._length(row)
                if self.max_length is not None and length > self.max_length:
                    self._first = self._first or problem.id
                    self.num_too_long += 1
                    self.longest = max(self.longest, length)
                    continue
                self._refuse_rewritten_turns(row, problem)
                self.num_turns += len(row["learned"])
                yield row

    def _length(self, row: Row) -> int:
        """Return the number of tokens of a row; 0 where it certainly fits."""
        if self.max_length is None or self._tokenizer is None:
            return 0
        # A token has at least one byte, so that a row with few enough bytes fits without being tokenized.
        size = sum(len(message["content"].encode()) + _TEMPLATE_BYTES for message in row["messages"])
        return 0 if size <= self.max_length else self._tokenizer.count(row["messages"])

    def _refuse_rewritten_turns(self, row: Row, problem: Problem) -> None:
        if self._tokenizer is None or self._every_token:
            return
        try:
            self._tokenizer.check(row["messages"], row["learned"])
        except TurnRewrittenError as error:
            path = self._config.model.path or self._config.model.kind
            raise Refused(
                f"chat {problem.id!r}: the chat template of model.path={path} writes a turn of the assistant differently once "
                f"the conversation goes on ({error}), so that one row cannot teach all turns; type "
                "stage.chat_turns=each for a row of each turn, as the model will see it, or stage.chat_turns=last"
            ) from error

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

    def chats(self) -> str:
        """Return how many rows are chats and how many turns are learned; "" where each row teaches one answer."""
        if self.num_turns == self.num_fitting:
            return ""
        return f"{self.num_fitting} training rows teach {self.num_turns} turns of the assistant ({self.num_chats} chats)"

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
