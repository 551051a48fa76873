r"""Exact arithmetic with the values of formulas: fractions, roots, variables, i, and functions as symbols.

A value is a quotient of two sums. Each sum maps a product of symbols with their exponents to its coefficient:

    3\sqrt{2}x/2  ->  {(("x", 1), ("~2", 1/2)): 3/2}

A root of a number is split into roots of primes, which are linearly independent over the fractions (Besicovitch 1940),
so two values without functions are equal exactly if their sums are. A symbol that depends on others, such as
`\sin(x)` or `\sqrt{1+x}`, is opaque: where only such values differ, numbers decide or the question stays open.

Every operation refuses results that are too large, so that no formula takes long: `9^{9^{9^{9}}}`, `(1+x)^{10000}`.
"""

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from r1exp.judgement.tokens import TooLarge

Product = tuple[tuple[str, Fraction], ...]  # symbols in order, each with its exponent
Sum = dict[Product, Fraction]

_MOST_TERMS: Final = 200  # of a sum
_MOST_BITS: Final = 20_000  # of a coefficient
_LARGEST_FACTORED: Final = 10**10  # numbers below are split into primes by trial division
_PRIME: Final = "~"  # first character of the symbol of a prime, whose exponent is between 0 and 1
_NOTHING: Final[Product] = ()
_ONE: Final[Sum] = {_NOTHING: Fraction(1)}


class Opaque(str):
    """A symbol that stands for a function of values, such as a sine or a root of a sum."""

    __slots__ = ("arguments", "name")
    name: str
    arguments: "tuple[Value, ...]"


@dataclass(frozen=True, slots=True)
class Value:
    """A quotient of two sums; do not change them."""

    above: Sum
    below: Sum

    @property
    def number(self) -> Fraction | None:
        """The value as a fraction; None where it has symbols."""
        if self.below is _ONE:
            if not self.above:
                return Fraction(0)
            if len(self.above) == 1 and _NOTHING in self.above:
                return self.above[_NOTHING]
        return None

    @property
    def symbols(self) -> set[str]:
        """Every symbol in it, those of primes included."""
        return {symbol for part in (self.above, self.below) for product in part for symbol, _ in product}

    @property
    def is_opaque(self) -> bool:
        """Whether equality of its sums does not decide equality of values."""
        return any(isinstance(symbol, Opaque) for symbol in self.symbols)

    @property
    def variables(self) -> set[str]:
        """Its variables, those inside functions included."""
        found = set()
        for symbol in self.symbols:
            if isinstance(symbol, Opaque):
                for argument in symbol.arguments:
                    found |= argument.variables
            elif not symbol.startswith(_PRIME) and symbol not in _CONSTANTS:
                found.add(symbol)
        return found

    def text(self) -> str:
        """Return a text that equal sums share."""
        above = _text(self.above)
        return above if self.below is _ONE else f"({above})/({_text(self.below)})"


_CONSTANTS: Final = {"pi": math.pi, "e": math.e, "i": 1j, "infinity": math.inf}


def number(value: Fraction | int) -> Value:
    """Return the value of a number."""
    return Value({_NOTHING: Fraction(value)} if value else {}, _ONE)


def symbol(name: str) -> Value:
    """Return the value of a variable or constant."""
    return Value({((name, Fraction(1)),): Fraction(1)}, _ONE)


def function(name: str, *arguments: Value) -> Value:
    """Return an opaque function of values."""
    opaque = Opaque(f"{name}({','.join(argument.text() for argument in arguments)})")
    opaque.name, opaque.arguments = name, arguments
    return symbol(opaque)


def plus(first: Value, second: Value) -> Value:
    """Return the sum of two values."""
    if first.below is second.below or first.below == second.below:
        return _quotient(_added(first.above, second.above), first.below)
    above = _added(_times(first.above, second.below), _times(second.above, first.below))
    return _quotient(above, _times(first.below, second.below))


def minus(value: Value) -> Value:
    """Return the negative value."""
    return Value({product: -factor for product, factor in value.above.items()}, value.below)


def times(first: Value, second: Value) -> Value:
    """Return the product of two values."""
    below = _ONE if first.below is _ONE and second.below is _ONE else _times(first.below, second.below)
    return _quotient(_times(first.above, second.above), below)


def over(first: Value, second: Value) -> Value:
    """Return the quotient of two values. Raises ZeroDivisionError."""
    if not second.above:
        raise ZeroDivisionError
    return _quotient(_times(first.above, second.below), _times(first.below, second.above))


def power(base: Value, exponent: Value) -> Value:
    """Return a value to the power of another one.

    Raises:
        TooLarge: the result has too many digits or terms.
        ZeroDivisionError: zero to a negative power.
    """
    degree = exponent.number
    if degree is None:
        return _general_power(base, exponent)
    if degree.denominator == 1:
        return _whole_power(base, int(degree))
    if abs(degree.numerator) > 1000 or degree.denominator > 1000:
        return function("power", base, exponent)
    if not base.above:
        return _whole_power(base, 1 if degree > 0 else -1)
    if len(base.above) == 1 and len(base.below) == 1:
        return over(_root_of_term(base.above, degree), _root_of_term(base.below, degree))
    return _root_of_sum(base, degree)


def logarithm(value: Value) -> Value:
    """Return the natural logarithm; that of a positive fraction as a sum over primes."""
    of = value.number
    if value.above == symbol("e").above and value.below is _ONE:
        return number(1)
    if of is None or of <= 0:
        return function("ln", value)
    total = number(0)
    for prime, exponent in (*_primes(of.numerator), *((p, -n) for p, n in _primes(of.denominator))):
        total = plus(total, times(number(exponent), function("ln", number(prime))))
    return total


def same(first: Value, second: Value) -> bool | None:
    """Return whether two values are equal; None where that is not known."""
    if first.above == second.above and first.below == second.below:
        return True
    try:
        is_equal = _times(first.above, second.below) == _times(second.above, first.below)
    except TooLarge:
        is_equal = False
        return False if _differ(first, second) else None
    if is_equal:
        return True
    if not (first.is_opaque or second.is_opaque):
        return False
    return False if _differ(first, second) else None


def proportional(first: Value, second: Value) -> Fraction | None:
    """Return the number c with first = c second; None where there is none, or it is not known."""
    try:
        left, right = _times(first.above, second.below), _times(second.above, first.below)
    except TooLarge:
        return None
    if not right or left.keys() != right.keys():
        return None
    product = next(iter(left))
    factor = left[product] / right[product]
    return factor if all(left[each] == factor * right[each] for each in left) else None


def approximate(value: Value, seed: int = 0) -> complex:
    """Return the value as a floating-point number, with an arbitrary number for each variable.

    Raises:
        ArithmeticError, ValueError: it is too large, or not defined there.
    """
    return _approximate_sum(value.above, seed) / _approximate_sum(value.below, seed)


def _approximate_sum(terms: Sum, seed: int) -> complex:
    total = 0j
    for product, factor in terms.items():
        term = complex(float(factor))
        for name, exponent in product:
            term *= _approximate_symbol(name, seed) ** float(exponent)
        total += term
    return total


def _approximate_symbol(name: str, seed: int) -> complex:
    if isinstance(name, Opaque):
        arguments = [approximate(argument, seed) for argument in name.arguments]
        return _FUNCTIONS[name.name](*arguments)
    if name.startswith(_PRIME):
        return complex(float(name[1:]))
    if name in _CONSTANTS:
        return complex(_CONSTANTS[name])
    number = sum(ord(letter) * 31**place for place, letter in enumerate(name[:20]))
    return complex(0.6 + (number * 0.6180339887 + seed * 0.7548776662) % 1.0)


_FUNCTIONS: Final[dict[str, Callable[..., complex]]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "ln": cmath.log, "arcsin": cmath.asin, "arccos": cmath.acos,
    "arctan": cmath.atan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x),
    "abs": lambda x: complex(abs(x)), "power": lambda x, y: x**y,
    "floor": lambda x: complex(math.floor(x.real)), "ceil": lambda x: complex(math.ceil(x.real)),
}  # fmt: skip
FUNCTIONS: Final = frozenset(_FUNCTIONS)


def _differ(first: Value, second: Value) -> bool:
    """Return whether two values certainly differ, by numbers at two places."""
    for seed in (1, 2):
        try:
            left, right = approximate(first, seed), approximate(second, seed)
        except (ArithmeticError, ValueError, KeyError):
            continue
        size = max(abs(left), abs(right))
        if cmath.isfinite(left) and cmath.isfinite(right) and abs(left - right) > 1e-6 * max(size, 1e-9):
            return True
    return False


def _quotient(above: Sum, below: Sum) -> Value:
    """Return a value whose lower sum is 1 where it has one term, and begins with the coefficient 1 otherwise."""
    if below is _ONE or not above:
        return Value(above, _ONE)
    if len(below) == 1:
        [(product, factor)] = below.items()
        inverse = tuple((name, -exponent) for name, exponent in product)
        return Value(_times(above, {inverse: 1 / factor}), _ONE)
    factor = below[min(below, key=_order)]
    if factor != 1:
        above = {product: each / factor for product, each in above.items()}
        below = {product: each / factor for product, each in below.items()}
    return Value(above, below)


def _added(first: Sum, second: Sum) -> Sum:
    total = dict(first)
    for product, factor in second.items():
        changed = total.get(product, 0) + factor
        if changed:
            total[product] = changed
        else:
            total.pop(product, None)
    if len(total) > _MOST_TERMS:
        raise TooLarge
    return total


def _times(first: Sum, second: Sum) -> Sum:
    if second is _ONE:
        return first
    if first is _ONE:
        return second
    if len(first) * len(second) > _MOST_TERMS * 20:
        raise TooLarge
    total: Sum = {}
    for left, factor in first.items():
        for right, other in second.items():
            for product, coefficient in _multiplied(left, right):
                changed = total.get(product, 0) + factor * other * coefficient
                if changed:
                    total[product] = changed
                else:
                    total.pop(product, None)
    if len(total) > _MOST_TERMS or any(_bits(factor) > _MOST_BITS for factor in total.values()):
        raise TooLarge
    return total


def _multiplied(left: Product, right: Product) -> list[tuple[Product, Fraction]]:
    """Return the product of two products as a sum: whole powers of roots and of i become numbers again."""
    if not left or not right:
        exponents = dict(left or right)
    else:
        exponents = dict(left)
        for name, exponent in right:
            exponents[name] = exponents.get(name, Fraction(0)) + exponent
    coefficient = Fraction(1)
    expanded: Sum | None = None
    for name in list(exponents):
        exponent = exponents[name]
        if not exponent:
            del exponents[name]
        elif name[0] == _PRIME and not 0 < exponent < 1:
            whole = math.floor(exponent)
            coefficient *= Fraction(int(name[1:])) ** whole
            exponents[name] = exponent - whole
            if exponents[name] == 0:
                del exponents[name]
        elif name == "i" and exponent.denominator == 1:
            turn = int(exponent) % 4
            coefficient *= -1 if turn >= 2 else 1
            exponents[name] = Fraction(turn % 2)
            if turn % 2 == 0:
                del exponents[name]
        elif isinstance(name, Opaque) and name.name == "root" and exponent >= 1:
            whole = math.floor(exponent)
            base = _whole_power(name.arguments[0], whole).above
            expanded = base if expanded is None else _times(expanded, base)
            exponents[name] = exponent - whole
            if exponents[name] == 0:
                del exponents[name]
    product = tuple(sorted(exponents.items()))
    if expanded is None:
        return [(product, coefficient)]
    return list(_times(expanded, {product: coefficient}).items())


_FUNCTIONS["root"] = lambda x: x


def _whole_power(base: Value, degree: int) -> Value:
    if degree < 0:
        if not base.above:
            raise ZeroDivisionError
        return _whole_power(over(number(1), base), -degree)
    if degree == 0:
        return number(1)
    size = sum(_bits(factor) for part in (base.above, base.below) for factor in part.values())
    if abs(degree) * max(size - 2, 0) > _MOST_BITS:
        raise TooLarge
    terms = max(len(base.above), len(base.below))
    if terms > 1 and (degree > 60 or math.comb(terms + degree - 1, degree) > _MOST_TERMS * 5):
        raise TooLarge
    if degree > 10**9:
        raise TooLarge
    if terms == 1 and base.below is _ONE:
        [(product, factor)] = base.above.items() if base.above else [(_NOTHING, Fraction(0))]
        if all(not isinstance(name, Opaque) for name, _ in product):
            raised = tuple((name, exponent * degree) for name, exponent in product)
            return _quotient(_times({raised: factor**degree}, {_NOTHING: Fraction(1)}), _ONE)
    result, square = number(1), base
    while degree:
        if degree & 1:
            result = times(result, square)
        degree >>= 1
        if degree:
            square = times(square, square)
    return result


def _root_of_term(terms: Sum, degree: Fraction) -> Value:
    """Return one term to a broken power."""
    [(product, factor)] = terms.items()
    for name, exponent in product:
        if name == "i" or (exponent != 1 and name[0] != _PRIME and name not in _CONSTANTS):
            return function("power", Value(terms, _ONE), number(degree))
    exponents: dict[str, Fraction] = {name: exponent * degree for name, exponent in product}
    if factor < 0:
        if degree.denominator % 2 == 0:
            if degree.denominator != 2:
                return function("power", Value(terms, _ONE), number(degree))
            exponents["i"] = Fraction(degree.numerator)
        elif degree.numerator % 2:
            return minus(_root_of_term({product: -factor}, degree))
    try:
        above, below = _primes(abs(factor.numerator)), _primes(factor.denominator)
    except TooLarge:
        return function("power", Value(terms, _ONE), number(degree))
    for prime, count in (*above, *((prime, -count) for prime, count in below)):
        name = f"{_PRIME}{prime}"
        exponents[name] = exponents.get(name, Fraction(0)) + count * degree
    raised = tuple(sorted(exponents.items()))
    return Value(_times({raised: Fraction(1)}, {_NOTHING: Fraction(1)}), _ONE)


def _root_of_sum(base: Value, degree: Fraction) -> Value:
    """Return a sum to a broken power, with its rational factor taken out."""
    if base.below is not _ONE:
        above, below = Value(base.above, _ONE), Value(base.below, _ONE)
        return over(power(above, number(degree)), power(below, number(degree)))
    content = Fraction(
        math.gcd(*(factor.numerator for factor in base.above.values())),
        math.lcm(*(factor.denominator for factor in base.above.values())),
    )
    inner = Value({product: factor / content for product, factor in base.above.items()}, _ONE)
    opaque = Opaque(f"root({inner.text()})")
    opaque.name, opaque.arguments = "root", (inner,)
    whole = math.floor(degree)
    root = Value({((opaque, degree - whole),): Fraction(1)}, _ONE)
    outside = power(number(content), number(degree))
    return times(times(outside, root), _whole_power(inner, whole)) if whole else times(outside, root)


def _general_power(base: Value, exponent: Value) -> Value:
    """Return a power whose exponent has symbols: 2^{x+1} is 2 times 2^x."""
    if base.number == 1:
        return base
    if exponent.below is _ONE and exponent.above.get(_NOTHING):
        constant = exponent.above[_NOTHING]
        rest = Value({product: each for product, each in exponent.above.items() if product}, _ONE)
        return times(power(base, number(constant)), function("power", base, rest))
    return function("power", base, exponent)


@lru_cache(maxsize=4096)
def _primes(value: int) -> tuple[tuple[int, int], ...]:
    """Return the prime factors of a positive number with their exponents. Raises TooLarge."""
    if value > _LARGEST_FACTORED:
        raise TooLarge
    found = []
    factor = 2
    while factor * factor <= value:
        count = 0
        while value % factor == 0:
            value //= factor
            count += 1
        if count:
            found.append((factor, count))
        factor += 1 if factor == 2 else 2
    return (*found, (value, 1)) if value > 1 else tuple(found)


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _order(product: Product) -> tuple[tuple[str, Fraction], ...]:
    return product


def _text(terms: Sum) -> str:
    return "+".join(
        "*".join([str(factor), *(f"{name}^{exponent}" for name, exponent in product)])
        for product, factor in sorted(terms.items(), key=lambda item: item[0])
    )
