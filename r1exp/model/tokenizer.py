r"""The tokenizer of the tiny model: one token per known word, and one token per byte of all other text.

Text is split into pieces by one regular expression: a mark of an answer style (`<think>`, `\boxed{`,
`####`), a word, a digit or a punctuation sign, each with the space before it, a newline, or a single
whitespace character. A piece in the vocabulary is one token; any other piece is encoded as its bytes.
So texts of the arithmetic task are short, numbers are encoded digit by digit, and any UTF-8 text is
decoded unchanged. Where the vocabulary has Chinese characters, each of them is a piece of its own.

The vocabulary is a fixed list and is not trained: a byte-level BPE without merges, whose
`ignore_merges` option looks up the whole piece first. Nothing depends on the machine or on randomness.
Tags are ordinary tokens, because completions are decoded with `skip_special_tokens=True`.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

PAD, END = "<|pad|>", "<|end|>"
PAD_ID, END_ID = 0, 1

_MARK = r"</?[a-z_]+>|\\\p{L}+\{?|####"
_PIECE = rf"{_MARK}| (?={_MARK})| ?\p{{L}}+| ?\p{{N}}|\n| ?[^\s\p{{L}}\p{{N}}]|\s"
_PIECE_HAN = _PIECE.replace(
    r" ?\p{L}+", r"\p{Han}| ?[\p{L}&&[^\p{Han}]]+"
)  # each Chinese character is a piece

# The system message is left out, because a model without pretraining cannot follow an instruction.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
)


def vocabulary(texts: Iterable[str], *, han: bool = False) -> list[str]:
    """Return all tokens in the order of their ids: special tokens, the 256 bytes, the pieces of `texts`.

    Tokens are written in the byte-level alphabet, where a space is `Ġ`. Digits are always included,
    with and without a space before them. `han`: each Chinese character is a piece.
    """
    splitter, to_bytes = _splitter(han), _byte_level()
    pieces = {piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)}
    pieces |= {blank + digit for blank in ("", " ") for digit in "0123456789"}
    written = {to_bytes.pre_tokenize_str(piece)[0][0] for piece in pieces}
    alphabet = sorted(ByteLevel.alphabet())
    return [PAD, END, *alphabet, *sorted(written - set(alphabet))]


def build_tokenizer(tokens: list[str], *, han: bool = False) -> Tokenizer:
    """Return a tokenizer in which the id of a token is its position in `tokens`; see `vocabulary`."""
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=ids, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = Sequence([_splitter(han), _byte_level()])
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, END)])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, max_length: int) -> None:
    """Write the files that `AutoTokenizer.from_pretrained(folder)` reads; `max_length` is in tokens.

    `tokenizer_class` is written because `AutoTokenizer` otherwise chooses a class by the model's type,
    and that class may split text differently without a warning.
    """
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    config = {
        "tokenizer_class": "TokenizersBackend",
        "pad_token": PAD,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _splitter(han: bool) -> PreTokenizer:
    return Split(Regex(_PIECE_HAN if han else _PIECE), behavior="isolated")


def _byte_level() -> PreTokenizer:
    return ByteLevel(add_prefix_space=False, use_regex=False)
