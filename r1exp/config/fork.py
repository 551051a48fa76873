"""The settings of a fork: the checkpoint that a step of a run begins with."""

from typing import Self

from pydantic import PositiveInt, model_validator

from r1exp.settings import Name, Settings


class ForkSettings(Settings):
    """The checkpoint that a step of the run begins with; `r1exp fork RUN@STEP` sets it."""

    run: Name | None = None  # directory of the run that wrote it; null: no fork
    step: Name | None = None  # the step that is forked
    at: PositiveInt | None = None  # optimizer steps that the checkpoint has taken

    @model_validator(mode="after")
    def _is_whole_or_nothing(self) -> Self:
        if len({value is None for value in (self.run, self.step, self.at)}) > 1:
            raise ValueError(
                "fork.run, fork.step and fork.at go together; type r1exp fork RUN@STEP KEY=VALUE, which sets them"
            )
        return self
