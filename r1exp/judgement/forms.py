r"""What a formula can be, and whether two of them are the same.

Besides a value: points and intervals `(1,2]`, sets `\{1,2\}`, lists `1, 2` (in any order), unions, matrices, relations
`x>2`, and chains `1<x<3`. Where this file cannot tell, the answer is None and math-verify is asked.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from r1exp.judgement.values import Value, approximate, minus, over, plus, proportional, same, symbol, times


@dataclass(frozen=True, slots=True)
class Row:
    """Items in brackets: a point, an interval, a set, or a list without brackets."""

    opening: str  # ( [ { or nothing
    items: "tuple[Form, ...]"
    closing: str

    @property
    def is_unordered(self) -> bool:
        """Whether it is a set, or a list without brackets."""
        return self.opening in ("{", "")


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values; `bars` for a determinant."""

    rows: "tuple[tuple[Form, ...], ...]"
    bars: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """Sides with a sign between each and the next: `=`, `<`, `le`, `ne`, `in`, `approx`, `equiv`."""

    sides: "tuple[Form, ...]"
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A union of sets."""

    parts: "tuple[Form, ...]"


@dataclass(frozen=True, slots=True)
class Name:
    """A set with a name (R, the empty set) or a number in another base."""

    text: str


Form = Value | Row | Matrix | Relation | Union | Name
_TURNED = {"<": ">", ">": "<", "le": "ge", "ge": "le"}
_INFINITE = symbol("infinity")
_FUNCTION_NAMES = frozenset("fghpqP")  # f(x) is read as f times x


def equal(first: Form, second: Form, near: Callable[[Value, Value], bool] | None = None) -> bool | None:
    """Return whether two formulas are the same; None where that is not known.

    Args:
        first: A formula.
        second: Another one; the order does not matter.
        near: Whether two values count as the same although they are not.
    """
    if isinstance(first, Relation) and isinstance(second, Relation) and _equal_relations(first, second, near):
        return True
    left, right = simplified(first), simplified(second)
    if isinstance(left, Value) and isinstance(right, Value):
        found = same(left, right)
        return True if not found and near is not None and near(left, right) else found
    left, right = _comparable(left, right), _comparable(right, left)
    match left, right:
        case Value(), Value():
            return equal(left, right, near)
        case Row(), Row():
            return _equal_rows(left, right, near)
        case Matrix(), Matrix():
            return _equal_matrices(left, right, near)
        case Relation(), Relation():
            return _equal_relations(left, right, near)
        case Union(), Union():
            return _all_in_any_order(left.parts, right.parts, near) or None
        case Name(), Name():
            return left.text == right.text
        case (Row() | Value(), Value() | Row()):
            return False
        case (Relation(), Value() | Row()) if "=" in left.signs:
            return False
        case (Value() | Row(), Relation()) if "=" in right.signs:
            return False
        case (Matrix(), Value()) | (Value(), Matrix()):
            return None if _has_bars(left, right) else False
        case (Name(), Value()) | (Value(), Name()):
            return _equal_base(left, right)
    return None


def simplified(form: Form) -> Form:
    """Return a formula without a variable that only names it, or brackets around a single item."""
    if isinstance(form, Relation):
        if form.signs == (":",) and all(isinstance(side, Value) for side in form.sides):
            above, below = form.sides
            assert isinstance(above, Value)
            assert isinstance(below, Value)
            return over(above, below) if below.above else form
        if form.signs[0] == "in" and len(form.signs) == 1:
            return simplified(form.sides[1])
        if _is_assignment(form):
            return simplified(
                Relation(form.sides[1:], form.signs[1:]) if len(form.signs) > 1 else form.sides[1]
            )
        if all(sign == "=" for sign in form.signs):
            turned = Relation(form.sides[::-1], form.signs)
            return simplified(turned) if len(form.signs) == 1 and _is_assignment(turned) else _one_side(form)
        return _as_interval(form) or form
    if isinstance(form, Row):
        if len(form.items) == 1 and form.opening in ("(", "{", "") and form.closing in (")", "}", ""):
            return simplified(form.items[0])
        if form.opening == "" and _all_assign_one_variable(form.items):
            return Row("", tuple(simplified(item) for item in form.items), "")
    return form


def _is_assignment(form: Relation) -> bool:
    first = form.sides[0]
    if form.signs[0] != "=" or not isinstance(first, Value):
        return False
    name = _lone_symbol(first)
    rest = form.sides[1:]
    return name is not None and not any(isinstance(side, Value) and name in side.variables for side in rest)


def _lone_symbol(value: Value) -> str | None:
    """Return the variable that a value is; f(x) counts as one."""
    if len(value.above) != 1 or len(value.below) != 1:
        return None
    [(product, factor)] = value.above.items()
    names = [name for name, exponent in product if exponent == 1]
    if factor != 1 or len(names) != len(product) or () not in value.below:
        return None
    if len(names) == 1 and names[0] in value.variables:
        return names[0]
    return next((name for name in names if name in _FUNCTION_NAMES), None) if len(names) == 2 else None


def _all_assign_one_variable(items: Sequence[Form]) -> bool:
    names = {
        _lone_symbol(item.sides[0])
        if isinstance(item, Relation) and isinstance(item.sides[0], Value) and _is_assignment(item)
        else None
        for item in items
    }
    return len(names) == 1 and None not in names


def _one_side(form: Relation) -> Form:
    """Return one side of an equation whose sides are all equal, else the equation."""
    first = form.sides[0]
    if isinstance(first, Value) and not first.variables:
        others = form.sides[1:]
        if all(isinstance(side, Value) and same(first, side) for side in others):
            return first
    return form


def _as_interval(form: Relation) -> Form | None:
    r"""Return `x>2` as the interval (2,\infty), and `1<x\le 3` as (1,3]."""
    sides, signs = form.sides, form.signs
    if signs[0] in (">", "ge"):
        sides, signs = sides[::-1], tuple(_TURNED.get(sign, sign) for sign in signs[::-1])
    if not all(sign in ("<", "le") for sign in signs):
        return None
    names = [_lone_symbol(side) if isinstance(side, Value) else None for side in sides]
    opening, closing = ("[" if signs[0] == "le" else "("), ("]" if signs[-1] == "le" else ")")
    if len(sides) == 3 and names[1] and not names[0] and not names[2]:
        return Row(opening, (sides[0], sides[2]), closing)
    if len(sides) == 2 and names[0] and _is_constant(sides[1]):
        return Row("(", (minus(_INFINITE), sides[1]), closing)
    if len(sides) == 2 and names[1] and _is_constant(sides[0]):
        return Row(opening, (sides[0], _INFINITE), ")")
    return None


def _is_constant(form: Form) -> bool:
    return isinstance(form, Value) and not form.variables


def _comparable(form: Form, other: Form) -> Form:
    """Return a formula in the shape of another one: `y=2x` as `2x`, `x=1, y=2` as `(1,2)`, a column as a point."""
    if isinstance(other, Row) and not other.is_unordered:
        if isinstance(form, Row) and form.opening == "":
            values = [_assigned(item) for item in form.items]
            items = tuple(each for each in values if each is not None)
            return (
                Row(other.opening, items, other.closing)
                if len(items) == len(values) and other.opening == "("
                else form
            )
        if isinstance(form, Matrix) and all(len(row) == 1 for row in form.rows) and other.opening == "(":
            return Row("(", tuple(row[0] for row in form.rows), ")")
    return form


def _assigned(form: Form) -> Form | None:
    """Return what a variable is said to be, or a form that is no relation."""
    if not isinstance(form, Relation):
        return form
    return form.sides[1] if _is_assignment(form) and len(form.signs) == 1 else None


def _equal_rows(left: Row, right: Row, near: Callable[[Value, Value], bool] | None) -> bool | None:
    if left.is_unordered and right.is_unordered:
        return _all_in_any_order(left.items, right.items, near)
    if left.is_unordered != right.is_unordered:
        return False
    if (left.opening, left.closing) != (right.opening, right.closing) or len(left.items) != len(right.items):
        return False
    return _all(equal(a, b, near) for a, b in zip(left.items, right.items, strict=True))


def _all_in_any_order(
    left: Sequence[Form], right: Sequence[Form], near: Callable[[Value, Value], bool] | None
) -> bool | None:
    """Return whether two sequences hold the same items; each has its partner."""
    if len(left) > 60 or len(right) > 60:
        return None
    is_open = False
    for items, others in ((left, right), (right, left)):
        for item in items:
            found = [equal(item, other, near) for other in others]
            if not any(found):
                if None not in found:
                    return False
                is_open = True
    return None if is_open else True


def _equal_matrices(left: Matrix, right: Matrix, near: Callable[[Value, Value], bool] | None) -> bool | None:
    if left.bars != right.bars or [len(row) for row in left.rows] != [len(row) for row in right.rows]:
        return False if left.bars == right.bars else None
    pairs = zip(sum(left.rows, ()), sum(right.rows, ()), strict=True)
    return _all(equal(a, b, near) for a, b in pairs)


def _equal_relations(
    left: Relation, right: Relation, near: Callable[[Value, Value], bool] | None
) -> bool | None:
    if len(left.signs) != len(right.signs):
        return None
    turned = Relation(right.sides[::-1], tuple(_TURNED.get(sign, sign) for sign in right.signs[::-1]))
    for other in (right, turned):
        if left.signs == other.signs and _all(
            equal(a, b, near) for a, b in zip(left.sides, other.sides, strict=True)
        ):
            return True
    if len(left.signs) > 1:
        return None
    first, second = _difference(left), _difference(right)
    if first is None or second is None:
        return None
    if left.signs == (":",):
        return right.signs == (":",) and _same_ratio(left, right)
    if left.signs == ("=",) and right.signs == ("=",):
        if proportional(first, second) is not None:
            return True
        return (
            None if first.is_opaque or second.is_opaque or len(first.symbols | second.symbols) == 0 else False
        )
    factor = proportional(first, second)
    if factor is None:
        return None
    expected = left.signs if factor > 0 else tuple(_TURNED.get(sign, sign) for sign in left.signs)
    return expected == right.signs


def _same_ratio(left: Relation, right: Relation) -> bool | None:
    (a, b), (c, d) = left.sides, right.sides
    if isinstance(a, Value) and isinstance(b, Value) and isinstance(c, Value) and isinstance(d, Value):
        return same(times(a, d), times(b, c))
    return None


def _difference(relation: Relation) -> Value | None:
    left, right = relation.sides
    if isinstance(left, Value) and isinstance(right, Value):
        return plus(left, minus(right))
    return None


def _equal_base(left: Form, right: Form) -> bool | None:
    """Return whether a number in a base has the digits of a plain number."""
    name, value = (left, right) if isinstance(left, Name) else (right, left)
    if not isinstance(name, Name) or not isinstance(value, Value) or not name.text[:1].isdigit():
        return False
    digits = name.text.partition("_")[0]
    return value.number is not None and digits.isdigit() and value.number == int(digits)


def _has_bars(*forms: Form) -> bool:
    return any(isinstance(form, Matrix) and form.bars for form in forms)


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True


def close(first: Value, second: Value, tolerance: float) -> bool:
    """Return whether two constants are numbers at most `tolerance` apart."""
    if first.variables or second.variables:
        return False
    try:
        return abs(approximate(first) - approximate(second)) <= tolerance
    except (ArithmeticError, ValueError, KeyError):
        return False
