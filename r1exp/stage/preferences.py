"""Settings of stage=preferences. The work is in `r1exp.stage.make_pairs`."""

from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveInt

from r1exp.dataset.rows import fingerprint_of_file
from r1exp.paths import ARTIFACT, ArtifactPaths
from r1exp.settings import Name
from r1exp.stage.base import Config, Stage, resolved_path
from r1exp.stage.step_settings import StepSettings


class Preferences(Stage):
    """Makes pairs of a better and a worse answer, from the answers of stage=sample."""

    kind: Literal["preferences"]
    samples: Name | None  # artifact folder of stage=sample; null in a pipeline: that of `data_from`
    min_margin: NonNegativeFloat  # smallest difference of reward between the best and the worst answer
    num_pairs: PositiveInt | None  # only the first pairs; null: all
    pairs_per_problem: PositiveInt = 1  # pairs of a problem, at most; an answer is in one of them only
    balance_lengths: bool = (
        False  # whether pairs are chosen so that chosen answers are no longer than rejected ones
    )

    work = "r1exp.stage.make_pairs:make_pairs"
    makes = "dataset"
    reads = frozenset()

    def reading_from(self, config: Config, source: str) -> Config:
        """Return `config` with the answers of the earlier step `source`."""
        stage = self.model_copy(update={"samples": f"{ARTIFACT}{source}"})
        return config.model_copy(update={"stage": stage})

    def fingerprint(self, config: StepSettings) -> str:
        """Return a content hash of the sampled answers, or of the data set where none are named."""
        if self.samples is None:
            return super().fingerprint(config)
        return fingerprint_of_file(ArtifactPaths(resolved_path(self.samples)).samples)

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return the settings without the folder of the answers, whose content is the step's data, and without choices
        that are not made."""
        unmade = {"balance_lengths"} if not self.balance_lengths else set()
        unmade |= {"pairs_per_problem"} if self.pairs_per_problem == 1 else set()
        return self.model_dump(mode="json", exclude={"samples", *unmade})

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return where the answers come from."""
        return f"answers of {self.samples}, pairs of better and worse"
