r"""Scores the share of the reasoning that is written in the wanted language.

    score = min(1, share / threshold),  share = words of the reasoning in the wanted language / words

A word (a character in scripts without spaces) is foreign if its script is not the language's, or if
the detector assigns its sentence to another language with a probability of at least 0.6. Numbers,
formulas, code, tags, single letters and names of functions belong to no language and are not counted. A
text without words scores 0.
Source: DeepSeek-R1, section 2.3.2 (arXiv:2501.12948): the proportion of target language words.

The detector is py3langid (naive Bayes over bytes; its model is in its wheel), restricted to the
languages below. It gets whole sentences, because no detector is reliable on two or three words.
"""

import re
from functools import cache
from itertools import groupby
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Reward, Score, Span
from r1exp.rewards.scripts import words_by_script

Language = Literal[
    "ar", "bn", "de", "en", "es", "fa", "fr", "he", "hi", "id", "it", "ja",
    "ko", "nl", "pl", "pt", "ru", "sv", "th", "tr", "uk", "ur", "vi", "zh",
]  # fmt: skip

_SCRIPTS_OF: Final[dict[str, set[str]]] = {
    "ar": {"arabic"}, "fa": {"arabic"}, "ur": {"arabic"}, "bn": {"other"}, "he": {"hebrew"},
    "hi": {"devanagari"}, "ja": {"han", "kana"}, "ko": {"hangul"}, "ru": {"cyrillic"},
    "th": {"thai"}, "uk": {"cyrillic"}, "zh": {"han"},
}  # fmt: skip
_LATIN: Final = {"latin"}
_SURE: Final = 0.6  # probability of another language from which a sentence counts as foreign
_FEW_LETTERS: Final = 12  # a shorter sentence in the right script is not given to the detector
_NO_LANGUAGE: Final = re.compile(
    r"```.{0,20000}?```|`[^`\n]{0,400}`|\$\$[^$]{0,4000}\$\$|\$[^$\n]{0,1000}\$"
    r"|\\\([^\\\n]*(?:\\[^()\n][^\\\n]*)*\\\)|\\\[[^\\]*(?:\\[^\[\]][^\\]*)*\\\]|\\[A-Za-z]+|</?[A-Za-z_]{1,30}>|https?://\S{1,500}",
    re.DOTALL,
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?;:])\s|[。！？；：\n]+")
_NAMES: Final = frozenset(
    (
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "exp",
        "sqrt",
        "max",
        "min",
        "mod",
        "gcd",
        "lcm",
        "lim",
        "det",
    )
)


class LanguageConsistency(Reward):
    """The share of the reasoning in one language, divided by a threshold."""

    kind: Literal["language_consistency"] = "language_consistency"
    style: StyleName  # decides where the reasoning is read; if that place is absent, the whole text is
    language: Language = "en"  # ISO 639-1
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # share of words that gets the full score

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        return min(1.0, self.share(self._reasoning(completion.text)) / self.threshold)

    def share(self, text: str) -> float:
        """Return the share of words in the wanted language; 0 without words."""
        num_wanted, num_foreign = self._counts(text)
        return num_wanted / (num_wanted + num_foreign) if num_wanted else 0.0

    def mixes(self, completion: str) -> bool:
        """Return whether the reasoning of a completion has words in another language."""
        return self._counts(self._reasoning(completion))[1] > 0

    def _reasoning(self, completion: str) -> str:
        reasoning = style_named(self.style).read_reasoning(completion)
        return completion if reasoning is None else reasoning

    def _counts(self, text: str) -> tuple[int, int]:
        """Return how many words of a text are in the wanted language, and how many are not."""
        counts = [self._count(sentence) for sentence in _SENTENCE_END.split(_NO_LANGUAGE.sub(" ", text))]
        return sum(wanted for wanted, _ in counts), sum(foreign for _, foreign in counts)

    def _count(self, sentence: str) -> tuple[int, int]:
        """Return how many words of a sentence are in the wanted language, and how many are not."""
        own_scripts = _SCRIPTS_OF.get(self.language, _LATIN)
        found = list(words_by_script(sentence))
        if self.language == "zh" and any(script == "kana" for script, _ in found):
            own_scripts = set()  # a sentence with kana is Japanese
        own: list[str] = []
        num_foreign = 0
        for script, word in found:
            if script in own_scripts:
                if _is_word(script, word):
                    own.append(word)
            elif _is_word(script, word):
                num_foreign += 1
        if not own:
            return 0, num_foreign
        joined = (" " if own_scripts == _LATIN else "").join(own)
        if len(joined) >= _FEW_LETTERS and self._is_another_language(_unrepeated(own)):
            return 0, num_foreign + len(own)
        return len(own), num_foreign

    def _is_another_language(self, words: list[str]) -> bool:
        joiner = "" if self.language in ("zh", "ja", "th") else " "
        found, probability = _detector().classify(joiner.join(words))
        return found != self.language and probability >= _SURE


def _is_word(script: str, word: str) -> bool:
    """Return whether a run of letters is a word, and not a variable or a function."""
    if script in ("han", "kana", "thai", "lao", "khmer", "burmese"):
        return True
    return len(word) > 1 and word not in _NAMES


def _unrepeated(words: list[str]) -> list[str]:
    return [word for word, _ in groupby(words)]


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped] # half a second

    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    detector.set_languages(list(get_args(Language)))
    return detector
