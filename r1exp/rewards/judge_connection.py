"""Settings of a model at an OpenAI-compatible endpoint that judges completions."""

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, ClassVar, Final

from pydantic import Field, NonNegativeInt, PositiveInt

from r1exp.errors import Refused
from r1exp.rewards.base import BatchReward, Seconds, Span
from r1exp.settings import Name

_DEADLINE: Final = 600.0  # seconds


class JudgeConnection(BatchReward):
    """A reward that asks a model at an endpoint; scores are from 0 to 1."""

    endpoint: Annotated[str, Field(pattern=r"^https?://\S+$")]  # up to /v1: http://localhost:8000/v1
    model: Name  # its name at the endpoint
    api_key_env: str | None = None  # name of the environment variable that holds the key
    concurrency: PositiveInt = 16  # requests at the same time
    timeout: Seconds = 60.0  # seconds for one request
    # Seconds for all requests of a batch, pauses included; not in a step's key unless it is changed.
    deadline: Seconds = Field(default=_DEADLINE, exclude_if=lambda seconds: seconds == _DEADLINE)
    retries: NonNegativeInt = 3  # attempts after the first; a busy judge (429) is asked until the deadline
    max_characters: PositiveInt = 20_000  # of prompt and reply each; the middle of longer ones is left out
    max_tokens: PositiveInt = 512  # of the judge's answer
    is_local: ClassVar[bool] = False

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def key(self) -> str | None:
        """Return the key of the endpoint; None: it needs none.

        Raises:
            Refused: the environment variable of the key is not set.
        """
        key = None if self.api_key_env is None else os.environ.get(self.api_key_env)
        if self.api_key_env is not None and not key:
            raise Refused(
                f"the judge needs a key and the environment variable {self.api_key_env} is not set; "
                f"export {self.api_key_env}=..., or set api_key_env=null for an endpoint without keys"
            )
        return key

    def shown(self, text: str) -> str:
        """Return a text as the judge gets it, without its middle where it is too long."""
        text = text.encode("utf-8", errors="replace").decode()  # half a surrogate pair is no valid UTF-8
        if len(text) <= self.max_characters:
            return text
        half = self.max_characters // 2
        return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def mark_of(texts: Sequence[str]) -> str:
    """Return a mark that none of the texts can contain by design, for its author cannot know it: a hash of all of them."""
    return blake2b("\0".join(texts).encode("utf-8", "replace"), digest_size=4).hexdigest()
