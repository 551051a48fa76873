r"""Parses the formulas that answers are made of: arithmetic, fractions, roots, points, sets, intervals, relations, matrices.

The grammar, from the outside in:

    list      relation {("," | "or" | ";") relation}
    relation  union {("=" | "<" | "\le" | "\in" | ...) union}
    union     sum {"\cup" sum}
    sum       ["+" | "-" | "\pm"] product {("+" | "-" | "\pm") product}
    product   power {["*" | "/"] power}
    power     atom {"^" atom | "!" | "'" | "%"}

`1 1/2` and `1\frac{1}{2}` are one and a half. Each text takes linear time; nesting is limited.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Final

from r1exp.judgement.forms import Form, Matrix, Name, Relation, Row, Union
from r1exp.judgement.tokens import NotAFormula, TooLarge, is_number, tokens_of
from r1exp.judgement.values import (
    FUNCTIONS,
    Value,
    function,
    logarithm,
    minus,
    number,
    over,
    plus,
    power,
    symbol,
    times,
)

_DEEPEST: Final = 40  # brackets in brackets
_RELATIONS: Final = {"=", "<", ">", "le", "ge", "ne", "in", "approx", "equiv", "sim", ":"}
_GREEK: Final = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "phi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Sigma",
        "Phi",
        "Psi",
        "Omega",
        "ell",
    ]
)
_OPERATORS: Final = {*FUNCTIONS - {"abs", "power", "floor", "ceil", "root"}, "log", "exp", "lg"}
_CLOSERS: Final = {"(": ")", "[": "]", "\\{": "\\}"}
_SMALL_FACTORIAL: Final = 500
_MATRICES: Final = {"pmatrix", "bmatrix", "matrix", "vmatrix", "array", "smallmatrix", "Bmatrix"}


@lru_cache(maxsize=16384)
def parsed(text: str) -> Form | None:
    """Return the formula that the whole of `text` is; None where it is none, or one that is not known here.

    Raises:
        TooLarge: it divides by zero, its value has too many digits or terms, or its brackets are too deep.
    """
    try:
        tokens = tokens_of(text)
        if not tokens:
            return None
        signs = (1, -1) if "pm" in tokens or "mp" in tokens else (1,)
        forms = [_Parser(tokens, sign).whole() for sign in signs]
    except NotAFormula:
        return None
    except ZeroDivisionError:
        raise TooLarge from None
    return forms[0] if len(forms) == 1 else _flat(forms)


def _flat(forms: list[Form]) -> Row:
    items: list[Form] = []
    for form in forms:
        items += form.items if isinstance(form, Row) and form.opening == "" else [form]
    return Row("", tuple(items), "")


class _Parser:
    """A recursive descent over the tokens; `sign` is the one that \\pm stands for."""

    def __init__(self, tokens: list[str], sign: int = 1) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._sign = sign

    def whole(self) -> Form:
        """Return the formula of all tokens."""
        form = self._list()
        if self._next() is not None:
            raise NotAFormula(f"it has {self._next()!r} after its end")
        return form

    def _next(self, ahead: int = 0) -> str | None:
        place = self._place + ahead
        return self._tokens[place] if place < len(self._tokens) else None

    def _accept(self, *tokens: str) -> str | None:
        found = self._next()
        if found not in tokens:
            return None
        self._place += 1
        return found

    def _expect(self, *tokens: str) -> str:
        found = self._accept(*tokens)
        if found is None:
            raise NotAFormula(f"it has {self._next()!r} where {tokens} belong")
        return found

    def _list(self) -> Form:
        items = [self._relation()]
        while self._accept(",", "or", ";"):
            self._accept("or")
            items.append(self._relation())
        return items[0] if len(items) == 1 else Row("", tuple(items), "")

    def _relation(self) -> Form:
        sides, signs = [self._union()], []
        while (sign := self._accept(*_RELATIONS)) is not None:
            if sign in ("<", ">") and self._accept("="):
                sign = "le" if sign == "<" else "ge"
            signs.append(sign)
            sides.append(self._union())
        return Relation(tuple(sides), tuple(signs)) if signs else sides[0]

    def _union(self) -> Form:
        parts = [self._sum()]
        while self._accept("cup"):
            parts.append(self._sum())
        return parts[0] if len(parts) == 1 else Union(tuple(parts))

    def _sum(self) -> Form:
        total: Form | None = None
        while True:
            sign = self._accept("+", "-", "pm", "mp")
            if sign is None and total is not None:
                return total
            term = self._product()
            if sign is None or (sign == "+" and total is None):
                total = term
                continue
            value = _value(term)
            negative = sign == "-" or (sign in ("pm", "mp") and (self._sign < 0) == (sign == "pm"))
            signed = minus(value) if negative else value
            total = signed if total is None else plus(_value(total), signed)

    def _product(self) -> Form:
        result = self._mixed_number() or self._power()
        while True:
            sign = self._accept("*", "/")
            if sign is None and not self._begins_atom():
                return result
            if sign is None and is_number(self._next() or " "):
                raise NotAFormula("a number follows without a sign")
            negative = sign is not None and self._accept("-") is not None
            factor = _value(self._power())
            factor = minus(factor) if negative else factor
            result = over(_value(result), factor) if sign == "/" else times(_value(result), factor)

    def _mixed_number(self) -> Form | None:
        r"""Return `1 1/2` or `1\frac{1}{2}` as one and a half; None where none begins here."""
        whole = self._next() or " "
        if not whole.isdigit():
            return None
        begin = self._place
        parts = [self._next(ahead) or " " for ahead in (1, 2, 3)]
        if parts[0].isdigit() and parts[1] == "/" and parts[2].isdigit() and int(parts[2]):
            self._place += 4
            broken = Fraction(int(parts[0]), int(parts[2]))
        elif parts[0] == "frac":
            self._place += 2
            above, below = _value(self._argument()).number, _value(self._argument()).number
            if (
                above is None
                or not below
                or above.denominator != 1
                or below.denominator != 1
                or above < 0 > below
            ):
                self._place = begin
                return None
            broken = above / below
        else:
            return None
        return number(int(whole) + broken)

    def _begins_atom(self) -> bool:
        token = self._next()
        if token is None:
            return False
        is_name = (
            token in _GREEK
            or token in _OPERATORS
            or token in ("frac", "sqrt", "cbrt", "binom", "pi", "infty", "abs")
        )
        return (
            is_name
            or is_number(token)
            or (len(token) == 1 and token.isalpha())
            or token in ("(", "{", "lfloor", "lceil")
        )

    def _power(self) -> Form:
        base = self._atom()
        while True:
            if self._next() == "*" and self._next(1) == "*":
                self._place += 2
                base = power(_value(base), _value(self._signed_atom()))
            elif self._accept("^"):
                if self._accept("circ") or self._is_degree_sign():
                    continue
                base = power(_value(base), _value(self._exponent()))
            elif self._accept("!"):
                base = _factorial(_value(base))
            else:
                return base

    def _is_degree_sign(self) -> bool:
        if (self._next(), self._next(1), self._next(2)) == ("{", "circ", "}"):
            self._place += 3
            return True
        return False

    def _exponent(self) -> Form:
        if self._next() == "{":
            return self._argument()
        return self._signed_atom()

    def _signed_atom(self) -> Form:
        if self._accept("-"):
            return minus(_value(self._power()))
        return self._power()

    def _argument(self) -> Form:
        r"""Return an argument of a command: `{...}`, or one digit, as in `\frac12`, or one atom."""
        token = self._next() or " "
        if token == "{":
            return self._group("{")
        if token.isdigit() and len(token) > 1:
            self._tokens = [
                *self._tokens[: self._place],
                token[0],
                token[1:],
                *self._tokens[self._place + 1 :],
            ]
        return self._atom()

    def _group(self, opening: str) -> Form:
        """Return what is in brackets."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise TooLarge
        self._expect(opening)
        if opening == "\\{" and self._accept("\\}"):
            return Name("empty")
        form = self._list()
        closing = (
            self._expect(")", "]")
            if opening in ("(", "[")
            else self._expect("\\}" if opening == "\\{" else "}")
        )
        self._depth -= 1
        items = form.items if isinstance(form, Row) and form.opening == "" else None
        if opening in ("\\{", "{"):
            is_set = opening == "\\{" or items is not None
            return Row("{", items or (form,), "}") if is_set else form
        if items is None:
            if _CLOSERS[opening] != closing:
                raise NotAFormula("its brackets do not fit")
            return Row("[", (form,), "]") if opening == "[" and not isinstance(form, Value) else form
        return Row(opening, items, closing)

    def _atom(self) -> Form:
        token = self._next()
        if token is None:
            raise NotAFormula("it ends too early")
        if token in ("(", "[", "\\{", "{"):
            return self._group(token)
        self._place += 1
        if is_number(token):
            return self._number_in_base(token) if self._accept("_") else number(Fraction(token))
        if len(token) == 1 and token.isalpha():
            return symbol(token + self._subscript())
        if token in _GREEK:
            return symbol(token + self._subscript())
        if token.startswith("begin "):
            return self._matrix(token[6:])
        if token.startswith("set "):
            return Name(token[4:])
        if token in _OPERATORS:
            return self._function(token)
        read = _ATOMS.get(token)
        if read is None:
            raise NotAFormula(f"it has {token!r}")
        return read(self)

    def _number_in_base(self, digits: str) -> Form:
        base = _value(self._argument()).number
        if base is None or base.denominator != 1:
            raise NotAFormula("its base is no whole number")
        return Name(f"{digits.lstrip('0') or '0'}_{base}")

    def _subscript(self) -> str:
        if not self._accept("_"):
            return ""
        if self._accept("{"):
            begin = self._place
            while self._next() not in ("}", None):
                self._place += 1
            self._expect("}")
            return "_" + "".join(self._tokens[begin : self._place - 1])
        self._place += 1
        return "_" + (self._tokens[self._place - 1] if self._place <= len(self._tokens) else "")

    def _matrix(self, environment: str) -> Form:
        if environment not in _MATRICES:
            raise NotAFormula(f"it has a {environment}")
        if environment == "array":
            self._argument()
        rows: list[list[Form]] = [[]]
        while not self._accept(f"end {environment}"):
            rows[-1].append(self._relation())
            if self._accept("\\"):
                rows.append([])
            elif self._next() != f"end {environment}":
                self._expect("&")
        return Matrix(tuple(tuple(row) for row in rows if row), environment == "vmatrix")

    def _function(self, name: str) -> Form:
        base = _value(self._argument()) if self._accept("_") else None
        exponent = _value(self._exponent()) if self._accept("^") else None
        if exponent is not None and exponent.number is not None and exponent.number < 0:
            raise NotAFormula("the inverse of a function is written in several ways")
        argument = self._argument_of_function()
        result = _applied(name, argument, base)
        return result if exponent is None else power(result, exponent)

    def _argument_of_function(self) -> Value:
        if self._next() in ("(", "{", "["):
            return _value(self._atom())
        result = _value(self._power())
        while self._begins_atom() and self._next() not in (*_OPERATORS, "("):
            result = times(result, _value(self._power()))
        return result

    def fraction(self) -> Form:
        """Return the fraction whose command was read."""
        above = _value(self._argument())
        return over(above, _value(self._argument()))

    def root(self) -> Form:
        """Return the root whose command was read."""
        degree = Fraction(2)
        if self._accept("["):
            given = _value(self._sum()).number
            self._expect("]")
            if not given or given.denominator != 1 or given < 1:
                raise NotAFormula("the degree of a root is no whole number")
            degree = given
        inner = self._argument() if self._next() != "(" else self._group("(")
        return power(_value(inner), number(1 / degree))

    def binomial(self) -> Form:
        """Return the binomial coefficient whose command was read."""
        above, below = _value(self._argument()).number, _value(self._argument()).number
        if above is None or below is None or above.denominator != 1 or below.denominator != 1:
            raise NotAFormula("a binomial coefficient with symbols")
        if not 0 <= below <= above <= _SMALL_FACTORIAL:
            raise TooLarge
        return number(math.comb(int(above), int(below)))

    def between(self, closing: str, name: str) -> Form:
        """Return the function that brackets such as | | and the floor stand for."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise TooLarge
        inner = _value(self._sum())
        self._expect(closing)
        self._depth -= 1
        return _applied(name, inner, None)


_ATOMS: Final[dict[str, Callable[[_Parser], Form]]] = {
    "frac": _Parser.fraction,
    "sqrt": _Parser.root,
    "cbrt": lambda parser: power(_value(parser._argument()), number(Fraction(1, 3))),
    "binom": _Parser.binomial,
    "pi": lambda _: symbol("pi"),
    "infty": lambda _: symbol("infinity"),
    "emptyset": lambda _: Name("empty"),
    "|": lambda parser: parser.between("|", "abs"),
    "lfloor": lambda parser: parser.between("rfloor", "floor"),
    "lceil": lambda parser: parser.between("rceil", "ceil"),
    "abs": lambda parser: _applied("abs", _value(parser._argument()), None),
}


def _value(form: Form) -> Value:
    if not isinstance(form, Value):
        raise NotAFormula("a sum of something else than values")
    return form


def _applied(name: str, argument: Value, base: Value | None) -> Value:
    """Return a function of a value, computed where that is exact."""
    of = argument.number
    if name == "exp":
        return power(symbol("e"), argument)
    if name == "ln":
        return logarithm(argument)
    if name in ("log", "lg") and base is not None:
        return over(logarithm(argument), logarithm(base))
    if name == "abs" and of is not None:
        return number(abs(of))
    if name == "floor" and of is not None:
        return number(math.floor(of))
    if name == "ceil" and of is not None:
        return number(math.ceil(of))
    return function(name, argument)


def _factorial(value: Value) -> Value:
    of = value.number
    if of is None or of.denominator != 1 or of < 0:
        return function("factorial", value)
    if of > _SMALL_FACTORIAL:
        raise TooLarge
    return number(math.factorial(int(of)))
