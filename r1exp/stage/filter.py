"""Settings of stage=filter. The work is in `r1exp.stage.filter_rows`."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from r1exp.dataset.base import Dataset
from r1exp.dataset.menu import DatasetSettings
from r1exp.dataset.readers import read_rows
from r1exp.dataset.rows import fingerprint_of_file
from r1exp.errors import Refused
from r1exp.evaluation.settings import OWN, SuiteName
from r1exp.model.preview import tokenizer_identity
from r1exp.paths import ArtifactPaths
from r1exp.rewards.language_consistency import Language
from r1exp.settings import Name, Probability, Settings
from r1exp.stage.base import ARTIFACT, Config, Stage, resolved_path
from r1exp.stage.step_settings import StepSettings

Bound = Annotated[float, Field(gt=0.0, le=1.0)]
_NO_PASS_RATE = (
    "{place}: the row has no column pass_rate, which {bound} needs; stage=sample measures it (r1exp stage=sample "
    "model.path=RUN, and its artifact/data.jsonl as stage.path), or leave {bound} out"
)


class Against(Settings):
    """A data set whose test problems must not be learned from, although no suite evaluates on it."""

    dataset: DatasetSettings  # NAME of an option of dataset, or its settings


class Contamination(Settings):
    """Rows that are copies of evaluated questions (r1exp.filtering.contamination)."""

    similarity: (
        Bound | None
    )  # share of masked n-grams from which a row is a near copy; null: whole copies only
    ngram: PositiveInt  # words of a masked n-gram
    whole_below: PositiveInt  # words; a shorter question is compared whole
    shared_ngram: (
        PositiveInt | None
    )  # words of an n-gram that no row may share with a question; null: not compared
    against: dict[SuiteName, Against]  # name -> further data set, beside the test split and evaluation.suites


class Filter(Stage):
    """Leaves out rows that should not be learned from: too long, too easy or hard, copies of questions that are evaluated, or
    of each other."""

    kind: Literal["filter"]
    path: Name | None  # file of rows as dataset=jsonl reads them; null: the training problems of dataset
    max_prompt_tokens: PositiveInt | None  # tokens of the rendered prompt; null: no limit
    max_total_tokens: PositiveInt | None  # tokens of prompt and solution, rendered; null: no limit
    min_pass_rate: Probability | None  # share of correct answers, column pass_rate; null: no bound
    max_pass_rate: Probability | None  # share of correct answers, column pass_rate; null: no bound
    languages: tuple[Language, ...]  # ISO 639-1; a row must be in one of them; empty: any
    language_share: Bound  # share of a row's words that must be in that language
    contamination: Contamination | None  # copies of evaluated questions; null: they stay
    duplicates: Literal["question", "row"] | None  # what is compared between rows; null: duplicates stay
    near_duplicates: Bound | None  # Jaccard similarity of n-grams of near duplicates; null: only exact ones
    duplicate_ngram: PositiveInt  # words of such an n-gram
    permutations: Annotated[int, Field(ge=16, le=1024)]  # hash functions of a MinHash signature
    examples: NonNegativeInt  # dropped rows of each reason that the report shows

    work = "r1exp.stage.filter_rows:filter_rows"
    makes = "dataset"
    reads = frozenset()

    @model_validator(mode="after")
    def _bounds_leave_something(self) -> Self:
        if (self.min_pass_rate or 0.0) > (1.0 if self.max_pass_rate is None else self.max_pass_rate):
            raise ValueError(
                f"min_pass_rate={self.min_pass_rate} is above max_pass_rate={self.max_pass_rate}, which leaves no row; lower "
                "stage.min_pass_rate"
            )
        if self.duplicates is None and self.near_duplicates is not None:
            raise ValueError(
                f"near_duplicates={self.near_duplicates} has no effect with duplicates=null; add stage.near_duplicates=null"
            )
        return self

    @property
    def counts_tokens(self) -> bool:
        """Whether rows are rendered with the model's tokenizer and chat template."""
        return self.max_prompt_tokens is not None or self.max_total_tokens is not None

    @property
    def bound_of_pass_rate(self) -> str | None:
        """The setting that needs the column pass_rate; None: none does."""
        names = ("min_pass_rate", "max_pass_rate")
        return next((f"stage.{name}" for name in names if getattr(self, name) is not None), None)

    def evaluated(self, config: StepSettings, *, with_download: bool = False) -> dict[str, Dataset]:
        """Return name -> data set whose test problems no row may copy: the step's own, those of all suites, and `against`.

        Args:
            config: Settings of the step.
            with_download: Also ask the hub whether the step's data set has test problems; without, it counts as having some.
        """
        if self.contamination is None:
            return {}
        found = {
            suite.name: suite.dataset for suite in config.evaluation.resolved(config.dataset, config.prompt)
        }
        found |= {name: each.dataset for name, each in self.contamination.against.items()}
        if config.dataset not in found.values():
            found = {OWN if OWN not in found else f"{OWN}-of-dataset": config.dataset, **found}
        return {
            name: each
            for name, each in found.items()
            if each != config.dataset or each.has_test_problems(with_download=with_download)
        }

    def reading_from(self, config: Config, source: str) -> Config:
        """Return `config` with the rows of the earlier step `source`; its data set still says what is evaluated."""
        if getattr(config.dataset, "path", "") is None:
            raise Refused(
                f"data_from={source} gives the rows, and dataset={config.dataset.kind} of a step of stage=filter says which test "
                "problems they must not copy: leave the step's dataset out, so that it is that of the run, or give it a path"
            )
        path = str(ArtifactPaths(resolved_path(f"{ARTIFACT}{source}")).data)
        stage = self.model_copy(update={"path": path})
        return stage.pinned(config.model_copy(update={"stage": stage}))

    def pinned(self, config: Config) -> Config:
        """Return the settings with commits instead of branches, of all data sets that are read."""
        update: dict[str, Any] = {
            "dataset": config.dataset.pinned(),
            "evaluation": config.evaluation.pinned(),
        }
        if self.contamination is not None and self.contamination.against:
            against = {
                name: Against(dataset=each.dataset.pinned())
                for name, each in self.contamination.against.items()
            }
            contamination = self.contamination.model_copy(update={"against": against})
            update["stage"] = self.model_copy(update={"contamination": contamination})
        return config.model_copy(update=update)

    def data_sets(self, config: StepSettings) -> list[Dataset]:
        """Return the data sets that are read: the rows, unless they are in a file, and what is evaluated."""
        return [*([] if self.path else [config.dataset]), *self.evaluated(config).values()]

    def count(self, config: StepSettings) -> int | None:
        """Return the number of rows."""
        if self.path is None:
            return super().count(config)
        return sum(1 for _ in read_rows(resolved_path(self.path), default=".jsonl"))

    def fingerprint(self, config: StepSettings) -> str:
        """Return a content hash of the rows."""
        return (
            super().fingerprint(config)
            if self.path is None
            else fingerprint_of_file(resolved_path(self.path))
        )

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return the settings, with the content of what is evaluated and what decides the number of tokens."""
        found = self.model_dump(
            mode="json", exclude={"path": True, "examples": True, "contamination": {"against"}}
        )
        found["examples"] = self.examples
        found["evaluated"] = {
            name: each.fingerprint_of("test") for name, each in self.evaluated(config).items()
        }
        if self.counts_tokens:
            found["tokens"] = {
                "tokenizer": tokenizer_identity(config.model),
                "chat_template_kwargs": config.model.chat_template_kwargs,
                "prompt": config.prompt.model_dump(mode="json"),
            }
        return found

    def check_data(self, config: StepSettings, num_problems: int | None) -> int | None:
        """Return how many rows there are.

        Raises:
            Refused: nothing is evaluated that rows could copy, a bound needs a column that is missing, or no filter is on.
        """
        if self.contamination is not None and not self.evaluated(config):
            raise Refused(
                f"dataset={config.dataset.kind} has no test problems, and no suite is evaluated, so that there are no questions to "
                "compare the rows with; name some, for example evaluation.suites=[gsm8k], or type stage.contamination=null"
            )
        bound = self.bound_of_pass_rate
        if bound is not None and num_problems is not None:
            for place, columns in self._first(config):
                if "pass_rate" not in columns:
                    raise Refused(_NO_PASS_RATE.format(place=place, bound=bound))
        return num_problems

    def _first(self, config: StepSettings) -> Iterator[tuple[str, Any]]:
        """Yield the place and the columns of the first row."""
        if self.path is not None:
            yield from islice(read_rows(resolved_path(self.path), default=".jsonl"), 1)
        else:
            yield from (
                (f"problem {problem.id}", problem.columns) for problem in config.dataset.first("train", 1)
            )

    def pass_rate_of(self, columns: Any, place: str) -> float | None:
        """Return the pass rate of a row; None if the row has no gold answer to have one.

        Raises:
            Refused: the row has no such column, or it holds no number between 0 and 1.
        """
        bound = self.bound_of_pass_rate
        if "pass_rate" not in columns:
            raise Refused(_NO_PASS_RATE.format(place=place, bound=bound))
        value = columns["pass_rate"]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise Refused(
                f"{place}: the column pass_rate holds {value!r}; it must be a share of correct answers between 0 and 1, or null; "
                f"correct the row, or leave {bound} out"
            )
        return float(value)

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return how many rows there are, and what is left out."""
        number = "rows" if num_problems is None else f"{num_problems:,} rows"
        parts = ["tokens"] * self.counts_tokens
        parts += ["pass rate"] * (self.bound_of_pass_rate is not None)
        parts += [f"language {' '.join(self.languages)}"] * bool(self.languages)
        if self.contamination is not None:
            parts.append(f"copies of questions of {' '.join(self.evaluated(config))}")
        if self.duplicates is not None:
            near = "" if self.near_duplicates is None else f" from similarity {self.near_duplicates:g}"
            parts.append(f"duplicate {self.duplicates}s{near}")
        return f"{number}, filtered: {', '.join(parts) or 'nothing'}"

    def details(self, config: StepSettings) -> Iterator[str]:
        """Yield the number of questions of each data set that is evaluated."""
        for name, dataset in self.evaluated(config).items():
            number = dataset.count("test")
            yield f"no copies of {name}: {'its' if number is None else f'{number:,}'} test problems"
