"""Settings of the prompt: the system text, and the style in which the answer is expected. conf/prompt/*.yaml."""

from typing import Annotated

from pydantic import AfterValidator

from r1exp.prompt.style import style_named
from r1exp.settings import Settings


def _known(name: str) -> str:
    style_named(name)
    return name


StyleName = Annotated[str, AfterValidator(_known)]  # of r1exp, of a plugin, or package.module:NAME


class PromptSettings(Settings):
    """How every problem is presented to the model."""

    style: StyleName  # tags around the reasoning and the answer, and how the answer is read back
    system: str  # system text; "" sends no system message
