"""Settings of stage=preferences. The work is in `r1exp.stage.make_pairs`."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from r1exp.dataset.rows import fingerprint_of_file
from r1exp.paths import ArtifactPaths
from r1exp.settings import Name
from r1exp.stage.base import ARTIFACT, Stage, resolved_path

if TYPE_CHECKING:
    from r1exp.stage.config import StepConfig


class Preferences(Stage):
    """Makes pairs of a better and a worse answer, from the answers of stage=sample."""

    kind: Literal["preferences"]
    samples: Name | None  # artifact folder of stage=sample; null in a pipeline: that of `data_from`
    min_margin: NonNegativeFloat  # smallest difference of reward between the best and the worst answer
    num_pairs: PositiveInt | None  # only the first pairs; null: all

    work = "r1exp.stage.make_pairs:make_pairs"
    makes = "dataset"

    def reading_from(self, config: "StepConfig", source: str) -> "StepConfig":
        """Return `config` with the answers of the earlier step `source` as its data."""
        stage = self.model_copy(update={"samples": f"{ARTIFACT}{source}"})
        return config.model_copy(update={"stage": stage})

    def fingerprint(self, config: "StepConfig") -> str:
        """Return a content hash of the sampled answers; without `samples`, of the data set."""
        if self.samples is None:
            return super().fingerprint(config)
        return fingerprint_of_file(ArtifactPaths(resolved_path(self.samples)).samples)

    def describe(self, config: "StepConfig", num_problems: int | None) -> str:
        """Return the folder of the answers."""
        return f"pairs from the answers in {self.samples}"
