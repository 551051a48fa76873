"""Settings of a pipeline.

    focus: rl
    steps:
      sft:  {use: {stage: sft}, set: {max_steps: 300}}
      rl:   {use: {stage: rl, algorithm: grpo}}

Each step is equivalent to a command line: `use` contains its group choices and `set` its values.
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from r1exp.settings import Name, Settings


class StepSpec(Settings):
    """One step of a pipeline."""

    use: dict[str, str]  # group -> option, at least {stage: ...}
    set: dict[str, Any] = Field(default_factory=dict)  # dotted key -> value
    model_from: Name | None = None  # `base`, or an earlier step; null: the last step that made a model
    data_from: Name | None = None  # an earlier step that made a data set; null: the step's own data set

    @model_validator(mode="after")
    def _names_its_stage(self) -> Self:
        if "stage" not in self.use:
            raise ValueError("a step must name its stage: use: {stage: sft}")
        return self


class PipelineSettings(Settings):
    """A pipeline: steps that run in the order in which they are written."""

    focus: Name  # the step that overrides of training settings (algorithm, rewards, beta, ...) apply to
    steps: Annotated[dict[str, StepSpec], Field(min_length=1)]  # name -> step, in the order in which they run

    @model_validator(mode="after")
    def _sources_are_earlier_steps(self) -> Self:
        if self.focus not in self.steps:
            raise ValueError(f"focus={self.focus!r} is none of the steps {list(self.steps)}")
        seen: list[str] = []
        for name, spec in self.steps.items():
            for source, allowed in ((spec.model_from, ["base", *seen]), (spec.data_from, seen)):
                if source is not None and source not in allowed:
                    raise ValueError(f"step {name!r} reads from {source!r}, which is none of {allowed}")
            seen.append(name)
        return self
