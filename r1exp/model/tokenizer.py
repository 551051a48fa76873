r"""How does the tiny model read text? Known words are one token each; everything else is its bytes.

Text is cut into pieces by one regular expression: a mark of an answer style (`<think>`, `\boxed{`,
`####`), a word or a digit or a sign, each with the space before it, a newline, or a single blank.
A piece in the vocabulary is one token; any other piece falls apart into bytes. So the arithmetic
task is short, a number is always spelt digit by digit, and any UTF-8 text comes back unchanged.

The vocabulary is a list, not the outcome of a training: a byte-level BPE without merges, whose
`ignore_merges` looks a whole piece up first. Nothing here depends on the machine or on chance.
Tags are plain tokens, since completions are decoded with special tokens left out.
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

# A model that is trained from nothing cannot read an instruction: the system text is left out.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
)


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Return every token in the order of its id: specials, the 256 bytes, then the pieces of `texts`.

    Tokens are written in the byte-level alphabet, where a space is `Ġ`. Digits are always there,
    with and without the space before them.
    """
    splitter, to_bytes = _splitter(), _byte_level()
    pieces = {piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)}
    pieces |= {blank + digit for blank in ("", " ") for digit in "0123456789"}
    written = {to_bytes.pre_tokenize_str(piece)[0][0] for piece in pieces}
    alphabet = sorted(ByteLevel.alphabet())
    return [PAD, END, *alphabet, *sorted(written - set(alphabet))]


def build_tokenizer(tokens: list[str]) -> Tokenizer:
    """Return the tokenizer whose ids are the positions in `tokens`, as `vocabulary` returns them."""
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=ids, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = Sequence([_splitter(), _byte_level()])
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, END)])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, max_length: int) -> None:
    """Write the files that `AutoTokenizer.from_pretrained(folder)` reads; `max_length` in tokens.

    The class is named, because `AutoTokenizer` otherwise guesses one from the model's type, and a
    guessed class may cut text into other pieces without a word.
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


def _splitter() -> PreTokenizer:
    return Split(Regex(_PIECE), behavior="isolated")


def _byte_level() -> PreTokenizer:
    return ByteLevel(add_prefix_space=False, use_regex=False)
