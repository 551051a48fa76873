"""Which sandboxes can be chosen (`sandbox.kind`)."""

from typing import Annotated

from pydantic import Field

from r1exp.sandbox.local import Local

SandboxSettings = Annotated[Local, Field(discriminator="kind")]
