"""Gives each answer a key that answers with the same value share, so that answers can be counted as votes."""

from fractions import Fraction
from functools import lru_cache

from r1exp.judgement.choices import LETTERS, read_choice
from r1exp.judgement.forms import Form, Matrix, Name, Relation, Row, Union, simplified
from r1exp.judgement.reading import number_in_words, read
from r1exp.judgement.values import Value
from r1exp.judgement.words import same_text


@lru_cache(maxsize=16384)
def key_of(answer: str) -> Fraction | str:
    """Return the number that an answer is, else a text of its normal form, of its letter, or of its words."""
    reading = read(answer)
    if reading.what == "text" and any(character.isdigit() for character in answer):
        in_words = number_in_words(answer)
        reading = in_words if in_words.number is not None else reading
    if reading.number is not None:
        return reading.number
    letter = (
        read_choice(answer)
        if len(reading.text) <= 3 and any(each in LETTERS for each in reading.text)
        else None
    )
    if letter is not None:
        return letter
    return same_text(reading.text) if reading.form is None else _key_of_form(simplified(reading.form))


def _key_of_form(form: Form) -> str:
    match form:
        case Value():
            return form.text()
        case Row():
            items = [_key_of_form(simplified(item)) for item in form.items]
            if form.is_unordered:
                return "{" + ",".join(sorted(set(items))) + "}"
            return form.opening + ",".join(items) + form.closing
        case Matrix():
            rows = ["&".join(_key_of_form(simplified(item)) for item in row) for row in form.rows]
            return "\\\\".join(rows)
        case Relation():
            sides = [_key_of_form(simplified(side)) for side in form.sides]
            return sides[0] + "".join(
                f" {sign} {side}" for sign, side in zip(form.signs, sides[1:], strict=True)
            )
        case Union():
            return " cup ".join(sorted(_key_of_form(simplified(part)) for part in form.parts))
        case Name():
            return form.text
