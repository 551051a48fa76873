"""The base of every settings class, and the helpers that suggest a name for a misspelt one."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Frozen, strict settings that refuse unknown keys.

    Strict means that `true` and `10.0` are not accepted as integers and `"3"` is not accepted as a number; an
    integer is accepted as a float. NaN and infinities are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def nearest(name: str, known: Iterable[str], *, num_suggestions: int = 1) -> list[str]:
    """Return the names in `known` most similar to `name`, best first, at most `num_suggestions`."""
    return get_close_matches(name, list(known), n=num_suggestions, cutoff=0.6)


def _no_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Name = Annotated[str, AfterValidator(_no_blank)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
