"""The 25 verifiable instructions of IFEval, each as a function of a reply and its arguments.

Source: Instruction-Following Evaluation (arXiv:2311.07911); names and arguments are those of its data. Every function
takes linear time. docs/rewards.md lists where a verdict differs from that of the paper's code.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from r1exp.rewards.instruction_text import LANGUAGES, count_sentences, count_words, language_of
from r1exp.rewards.json_text import strict_json, without_fence
from r1exp.rewards.scripts import is_spaceless

Arguments = Mapping[str, Any]
_RELATIONS: Final = ("less than", "at least")
_YES_NO_MAYBE: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_COMMAS: Final = ",，、،"
_QUOTES: Final = (('"', '"'), ("“", "”"))
_HIGHLIGHT: Final = re.compile(r"\*[^\n*]*\*")
_BOLD: Final = re.compile(r"\*\*[^\n*]*\*\*")
_PARAGRAPHS: Final = re.compile(r"\s?\*\*\*\s?")
_CAPITAL_WORD: Final = re.compile(r"\w(?:[\w.'’/&-]{0,200}\w)?")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of instruction: what it needs, and whether a reply follows it."""

    arguments: Mapping[str, type]  # name: type; all must be there
    follows: Callable[[str, Arguments], bool]


class UnknownInstructionError(ValueError):
    """There is no such kind of instruction."""


def checked(name: str, arguments: Arguments) -> Kind:
    """Return a kind whose arguments are all there and of the right types.

    Raises:
        UnknownInstructionError: there is no such kind.
        ValueError: an argument is missing or of another type.
    """
    kind = KINDS.get(name)
    if kind is None:
        raise UnknownInstructionError(name)
    for argument, type_ in kind.arguments.items():
        value = arguments.get(argument)
        if type_ is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # as Arrow and pandas store integers beside nulls
        if not isinstance(value, type_) or isinstance(value, bool) or (type_ is list and not value):
            raise ValueError(f"{name} needs {argument} as {type_.__name__} and has {value!r}")
        if type_ is list and not all(isinstance(item, str) and item for item in arguments[argument]):
            raise ValueError(f"{name} needs texts in {argument}")
        if argument.endswith("relation") and value not in _RELATIONS:
            raise ValueError(f"{name} needs {argument} as one of {_RELATIONS}")
    if name == "language:response_language" and _language(arguments["language"]) not in LANGUAGES:
        raise ValueError(f"{arguments['language']!r} is no language that is recognized")
    return kind


def _holds(number: int, relation: str, bound: float) -> bool:
    return number < bound if relation == "less than" else number >= bound


def _occurrences(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _has_keywords(text: str, arguments: Arguments) -> bool:
    return all(_occurrences(keyword, text) for keyword in arguments["keywords"])


def _has_keyword_as_often(text: str, arguments: Arguments) -> bool:
    return _holds(_occurrences(arguments["keyword"], text), arguments["relation"], arguments["frequency"])


def _has_no_forbidden_word(text: str, arguments: Arguments) -> bool:
    return not any(re.search(_as_word(word), text, re.IGNORECASE) for word in arguments["forbidden_words"])


def _as_word(word: str) -> str:
    """Return a pattern of a whole word; where it begins or ends in a script without spaces, of any occurrence."""
    before = r"(?<!\w)" if _is_in_word(word[0]) else ""
    after = r"(?!\w)" if _is_in_word(word[-1]) else ""
    return before + re.escape(word) + after


def _is_in_word(character: str) -> bool:
    return (character.isalnum() or character == "_") and not is_spaceless(character)


def _has_letter_as_often(text: str, arguments: Arguments) -> bool:
    number = text.lower().count(arguments["letter"].lower())
    return _holds(number, arguments["let_relation"], arguments["let_frequency"])


def _language(code: str) -> str:
    return code.lower().partition("-")[0]


def _is_in_language(text: str, arguments: Arguments) -> bool:
    return language_of(text) == _language(arguments["language"])


def _has_sentences(text: str, arguments: Arguments) -> bool:
    return _holds(count_sentences(text), arguments["relation"], arguments["num_sentences"])


def _has_words(text: str, arguments: Arguments) -> bool:
    return _holds(count_words(text), arguments["relation"], arguments["num_words"])


def _has_paragraphs(text: str, arguments: Arguments) -> bool:
    """Paragraphs are separated by ***; only those at the ends may be empty."""
    parts = [part.strip() for part in _PARAGRAPHS.split(text)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == arguments["num_paragraphs"]


def _has_first_word(text: str, arguments: Arguments) -> bool:
    """Paragraphs are separated by two line breaks."""
    paragraphs = text.split("\n\n")
    place = arguments["nth_paragraph"]
    number = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if number != arguments["num_paragraphs"] or not 1 <= place <= number:
        return False
    words = paragraphs[int(place) - 1].split(maxsplit=1)
    if not words:
        return False
    word, wanted = words[0].lstrip("'").lstrip('"').lower(), arguments["first_word"].lower()
    if any(is_spaceless(character) for character in wanted):
        return word.startswith(wanted)
    return re.split(r"[.,?!'\"]", word, maxsplit=1)[0] == wanted


def _has_placeholders(text: str, arguments: Arguments) -> bool:
    """A placeholder is [what stands in brackets] on one line."""
    number = 0
    for line in text.split("\n"):
        position = line.find("[")
        while position >= 0 and (end := line.find("]", position)) >= 0:
            number += 1
            position = line.find("[", end)
    return bool(number >= arguments["num_placeholders"])


def _has_postscript(text: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"].strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(patterns.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _has_bullets(text: str, arguments: Arguments) -> bool:
    """A bullet is a line that begins with - or with one *."""
    lines = [line.strip() for line in text.split("\n")]
    bullets = [
        line
        for place, line in enumerate(lines)
        if line.startswith("-")
        or (line.startswith("*") and line[1:2] != "*" and (len(line) > 1 or place < len(lines) - 1))
    ]
    return bool(len(bullets) == arguments["num_bullets"])


def _is_one_of_three(text: str, arguments: Arguments) -> bool:
    del arguments
    return any(answer in text for answer in _YES_NO_MAYBE)


def _has_highlights(text: str, arguments: Arguments) -> bool:
    """A highlight is *text* or **text** on one line."""
    found = [*_HIGHLIGHT.findall(text), *_BOLD.findall(text)]
    return bool(sum(bool(mark.strip("*").strip()) for mark in found) >= arguments["num_highlights"])


def _has_sections(text: str, arguments: Arguments) -> bool:
    """A section begins with its word and a number, such as SECTION 1."""
    mark = re.escape(arguments["section_spliter"].strip())
    return bool(len(re.findall(rf"{mark}\s?\d", text)) >= arguments["num_sections"])


def _is_json(text: str, arguments: Arguments) -> bool:
    del arguments
    bare = text.strip()
    if bare.startswith("```") and "\n" not in bare:
        bare = re.sub(r"^```(?:json)?|```$", "", bare, flags=re.IGNORECASE)
    try:
        strict_json(without_fence(bare).strip())
    except ValueError:
        return False
    return True


def _has_title(text: str, arguments: Arguments) -> bool:
    """A title is <<text>> on one line."""
    del arguments
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end and line[start:end].lstrip("<").strip(" \t>"):
            return True
    return False


def _is_two_responses(text: str, arguments: Arguments) -> bool:
    """Two different responses are separated by ******."""
    del arguments
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    full = [part for part in parts if part]
    return len(full) == 2 and full[0] != full[1]


def _repeats_prompt(text: str, arguments: Arguments) -> bool:
    return text.strip().lower().startswith(arguments["prompt_to_repeat"].strip().lower())


def _ends_with(text: str, arguments: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


def _is_quoted(text: str, arguments: Arguments) -> bool:
    del arguments
    bare = text.strip()
    return len(bare) > 1 and any(bare[0] == first and bare[-1] == last for first, last in _QUOTES)


def _has_capital_words(text: str, arguments: Arguments) -> bool:
    number = sum(word.isupper() for word in _CAPITAL_WORD.findall(text))
    return _holds(number, arguments["capital_relation"], arguments["capital_frequency"])


def _is_english_capitals(text: str, arguments: Arguments) -> bool:
    del arguments
    return text.isupper() and language_of(text) == "en"


def _is_english_lowercase(text: str, arguments: Arguments) -> bool:
    del arguments
    return text.islower() and language_of(text) == "en"


def _has_no_comma(text: str, arguments: Arguments) -> bool:
    del arguments
    return not any(comma in text for comma in _COMMAS)


KINDS: Final[dict[str, Kind]] = {
    "keywords:existence": Kind({"keywords": list}, _has_keywords),
    "keywords:frequency": Kind({"keyword": str, "relation": str, "frequency": int}, _has_keyword_as_often),
    "keywords:forbidden_words": Kind({"forbidden_words": list}, _has_no_forbidden_word),
    "keywords:letter_frequency": Kind(
        {"letter": str, "let_relation": str, "let_frequency": int}, _has_letter_as_often
    ),
    "language:response_language": Kind({"language": str}, _is_in_language),
    "length_constraints:number_sentences": Kind({"relation": str, "num_sentences": int}, _has_sentences),
    "length_constraints:number_paragraphs": Kind({"num_paragraphs": int}, _has_paragraphs),
    "length_constraints:number_words": Kind({"relation": str, "num_words": int}, _has_words),
    "length_constraints:nth_paragraph_first_word": Kind(
        {"num_paragraphs": int, "nth_paragraph": int, "first_word": str}, _has_first_word
    ),
    "detectable_content:number_placeholders": Kind({"num_placeholders": int}, _has_placeholders),
    "detectable_content:postscript": Kind({"postscript_marker": str}, _has_postscript),
    "detectable_format:number_bullet_lists": Kind({"num_bullets": int}, _has_bullets),
    "detectable_format:constrained_response": Kind({}, _is_one_of_three),
    "detectable_format:number_highlighted_sections": Kind({"num_highlights": int}, _has_highlights),
    "detectable_format:multiple_sections": Kind({"section_spliter": str, "num_sections": int}, _has_sections),
    "detectable_format:json_format": Kind({}, _is_json),
    "detectable_format:title": Kind({}, _has_title),
    "combination:two_responses": Kind({}, _is_two_responses),
    "combination:repeat_prompt": Kind({"prompt_to_repeat": str}, _repeats_prompt),
    "startend:end_checker": Kind({"end_phrase": str}, _ends_with),
    "startend:quotation": Kind({}, _is_quoted),
    "change_case:capital_word_frequency": Kind(
        {"capital_relation": str, "capital_frequency": int}, _has_capital_words
    ),
    "change_case:english_capital": Kind({}, _is_english_capitals),
    "change_case:english_lowercase": Kind({}, _is_english_lowercase),
    "punctuation:no_comma": Kind({}, _has_no_comma),
}
