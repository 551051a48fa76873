"""Computes the loss of SFT on chosen turns of the assistant, with any chat template.

TRL 1.16 finds the assistant's tokens of a whole conversation with `assistant_only_loss`, for which the chat template must
mark them with `{% generation %}`; few published ones do, and TRL replaces those that it knows with its own. Here
`r1exp.model.turns` finds them with the model's own template. A row with one answer gets the ids and labels that TRL makes of
a prompt and its completion.
"""

from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import SFTTrainer

from r1exp.errors import Refused
from r1exp.model.turns import ChatTokenizer, TurnRewrittenError
from r1exp.records import Message

_IGNORED = -100  # PyTorch's label of a token that the loss leaves out


class LearnedTurns(SFTTrainer):
    """Reads rows {"messages", "learned"}, where `learned` are positions of turns. Written against TRL 1.16."""

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, *rest: Any, **further: Any
    ) -> Any:
        """Tokenize the rows here, after TRL has applied `chat_template_path`, and let TRL cut, pack and shuffle them."""
        tokenizer = turns_of(processing_class)
        try:
            labelled = dataset.map(
                lambda row: labelled_row(row, tokenizer, every_token=not self.completion_only_loss),
                remove_columns=dataset.column_names,
                num_proc=args.dataset_num_proc,
            )
        except TurnRewrittenError as error:  # with the model's own template, the rows were checked before
            raise Refused(
                f"trainer.chat_template_path={args.chat_template_path}: the template writes a turn of the assistant differently "
                f"once the conversation goes on ({error}), so that one row cannot teach all turns; type stage.chat_turns=each"
            ) from error
        return super()._prepare_dataset(labelled, processing_class, args, *rest, **further)


def labelled_row(row: dict[str, Any], tokenizer: ChatTokenizer, *, every_token: bool) -> dict[str, list[int]]:
    """Return `input_ids` and `labels` of a row.

    Args:
        row: {"messages": a conversation, "learned": positions of turns of the assistant}.
        tokenizer: That of the policy.
        every_token: Whether the loss covers all tokens, those of the prompt too.
    """
    ids, mask = tokenizer.tokens(row["messages"], () if every_token else row["learned"])
    labels = ids if every_token else [token if on else _IGNORED for token, on in zip(ids, mask, strict=True)]
    return {"input_ids": ids, "labels": labels}


def turns_of(tokenizer: PreTrainedTokenizerBase) -> ChatTokenizer:
    """Return the chat template and the encoding of a tokenizer."""

    def render(messages: list[Message], opens_answer: bool) -> str:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=opens_answer
        )
        return text

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    return ChatTokenizer(render, encode)
