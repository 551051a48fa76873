"""Which sandboxes can be chosen (`sandbox.kind`)? One line a sandbox."""

from typing import Annotated

from pydantic import Field

from r1exp.sandbox.e2b import E2b
from r1exp.sandbox.local import Local
from r1exp.sandbox.morph import Morph
from r1exp.sandbox.piston import Piston

SandboxSettings = Annotated[
    Local
    | Piston
    | E2b
    | Morph,
    Field(discriminator="kind"),
]  # fmt: skip
