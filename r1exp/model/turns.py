"""Finds the tokens of a conversation that the assistant wrote, with any chat template. Torch-free.

A turn of the assistant is learned where training shows the model what it will see when it answers. With `render` for the chat
template, and turn k as the last of `alone`:

    prompt = render(turns before k, generation prompt)      what the model is given
    alone  = render(turns up to k)                          the prompt, the turn, and its end
    whole  = render(all turns)                              what the row holds

Turn k can be learned in the row if `whole` begins with `prompt`, goes on with the turn as in `alone`, and with something of
its end. It cannot where a template writes earlier turns differently: Qwen3 removes their thinking, Mistral's moves the system
text to the last question. Nothing is concluded from a template's name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r1exp.records import Message

Render = Callable[[list[Message], bool], str]  # (messages, whether the assistant's turn is opened) -> text
Encode = Callable[[str], list[int]]  # text -> token ids, without special tokens that the text does not name


class TurnRewrittenError(ValueError):
    """A turn of the assistant is written differently once the conversation goes on; the message says how."""


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A chat template and a tokenizer."""

    render: Render
    encode: Encode

    def count(self, messages: list[Message], opens_answer: bool = False) -> int:
        """Return the number of tokens of a whole conversation, or of a prompt that opens an answer."""
        return len(self.encode(self.render(messages, opens_answer)))

    def tokens(self, messages: list[Message], learned: Sequence[int]) -> tuple[list[int], list[bool]]:
        """Return the token ids of a conversation, and for each whether it belongs to a turn that is learned.

        A turn begins after its prompt and includes its end: the markers after which the model stops. The last turn begins
        where its prompt alone and the row differ, as in TRL 1.16's SFTTrainer.

        Args:
            messages: The conversation.
            learned: Positions of turns of the assistant in `messages`, in order.

        Raises:
            TurnRewrittenError: a turn before the last cannot be learned in this row.
        """
        whole = self.render(messages, False)
        ids = self.encode(whole)
        mask = [False] * len(ids)
        for turn in learned:
            is_last = turn == len(messages) - 1
            start = num_shared(self.encode(self.render(messages[:turn], True)), ids)
            end = len(ids) if is_last else self._end(messages, turn, whole, ids)
            mask[start:end] = [True] * (end - start)
        return ids, mask

    def check(self, messages: list[Message], learned: Sequence[int]) -> None:
        """Raise TurnRewrittenError if a turn before the last cannot be learned in the conversation."""
        earlier = [turn for turn in learned if turn < len(messages) - 1]
        if earlier:
            self.tokens(messages, earlier)

    def _end(self, messages: list[Message], turn: int, whole: str, ids: list[int]) -> int:
        """Return the position after the last token of a turn before the last."""
        prompt = self.render(messages[:turn], True)
        if not whole.startswith(prompt):
            raise TurnRewrittenError(
                "what comes before it, and how it is opened, differ from the prompt that the model is given"
            )
        alone = self.render(messages[: turn + 1], False)
        content = messages[turn]["content"].strip()
        found = alone.find(content, len(prompt))
        content_end = found + len(content)
        if found < 0 or not whole.startswith(alone[:content_end]):
            raise TurnRewrittenError(
                "its text is changed (thinking of earlier turns is removed, for example)"
            )
        end = num_shared(self.encode(alone), ids)
        if end <= num_shared(self.encode(alone[:content_end]), ids):
            raise TurnRewrittenError("no mark after it says that it ends, which the model must learn")
        return end


def num_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common from their start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
