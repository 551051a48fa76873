"""The sandboxes that `sandbox.kind` can name. To add one, write its file and add its line."""

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
