"""Reads problems from anything that the library `datasets` loads: the hub, Parquet, Arrow, JSON, CSV, `save_to_disk`.

`columns` says which columns are the question, the answer and the worked solution, `extract` how the answer is read out of
its column. Presets are YAML files that give these settings for a published data set (conf/dataset/gsm8k.yaml).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from r1exp.dataset.columns import Reader, digest_of
from r1exp.dataset.extract import known_rule
from r1exp.dataset.sources import Chosen, Hub, Source, check_hub, located, sources, split_named
from r1exp.dataset.table import Splits, Table
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.hub import commit_of
from r1exp.paths import ARTIFACT
from r1exp.records import Problem
from r1exp.settings import Name, Settings


def _expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


VALIDATION = "validation"  # name of the split that evaluations during training use
Rule = Annotated[str, AfterValidator(known_rule)]
Expression = Annotated[str, AfterValidator(_expression)]


class ColumnNames(Settings):
    """The columns of a row; `a.b` is the value `b` of the object in column `a`."""

    question: Name  # a text, or a chat: a list of messages
    answer: Name | None  # the gold answer; null: there are none; the question's column: the chat's last turn
    solution: Name | None  # the worked reasoning, optional per row; may be the answer's column
    id: Name | None  # optional per row; without it, the id is a hash of the question


class Hf(Table):
    """Problems from the Hugging Face hub or from local files."""

    kind: Literal["hf"]
    path: Name | None  # hub id, file or folder; null in a pipeline step that takes its data from another step
    subset: Name | None  # subset ("config") of a data set that has several; null: its default
    revision: Name | None  # branch, tag or commit on the hub; null: the main branch
    train: Name | None  # training split; null: there is none, and the data are for evaluation
    test: Name | None  # test split; null: `test` if there is one, else questions of `train` are held out
    test_path: Name | None  # file, folder or hub id of the test split; null: that of `path`
    columns: ColumnNames
    extract: Rule  # how the answer is read out of its column: whole, hash, boxed, or a regular expression
    remove: Expression | None  # regular expression; what it matches is deleted from solutions
    ids: Name | None  # ids are numbers after this name, in the order of the rows; null: by columns.id
    drop: tuple[Name, ...]  # columns that are not kept for the rewards
    shared_questions: Literal["refuse", "drop"]  # what is done with training questions that are also tested
    # Column: values of the rows that are read; the others are left out.
    keep: dict[Name, tuple[str | int | bool, ...]] = Field(
        default_factory=dict, exclude_if=lambda keep: not keep
    )
    # What is done with rows whose answer is null, blank or not found by `extract`.
    unanswered: Literal["refuse", "drop"] = Field(default="refuse", exclude_if=lambda rule: rule == "refuse")

    @model_validator(mode="after")
    def _some_split_is_read(self) -> Self:
        if self.train is None and self.test is None:
            raise ValueError("dataset.train=null needs the split that is evaluated: give dataset.test=SPLIT")
        return self

    @property
    def has_answers(self) -> bool:  # type: ignore[override]  # a constant of other data sets
        """Whether there are gold answers, so that a model can be evaluated."""
        return self.columns.answer is not None

    @property
    def is_local(self) -> bool:
        """Whether neither split is on the hub."""
        paths = [("dataset.path", self._given())]
        if self.test_path is not None:
            paths.append(("dataset.test_path", self.test_path))
        return not any(isinstance(located(path, setting), str) for setting, path in paths)

    @property
    def has_training_split(self) -> bool:
        """Whether a training split is named."""
        return self.train is not None

    @property
    def has_test_split(self) -> bool:
        """Whether a test split is named, or is found in a local folder; what is on the hub is not asked."""
        if self.test is not None or self.test_path is not None:
            return True
        is_there = not self._given().startswith(ARTIFACT) and self.is_local
        return is_there and self.splits().test is not None

    def check_source(self) -> None:
        """Raise Refused if the data are on the hub, and there is no such data set or split, or no network."""
        if self.is_local:
            return
        for path in (self._given(), self.test_path):
            place = None if path is None else located(path, "dataset.path")
            if isinstance(place, str):
                check_hub(place, self.revision)
        self.splits()

    def pinned(self) -> Self:
        """Return the same data set with the commit of its revision, if the data are on the hub and it can be found."""
        place = located(self._given(), "dataset.path")
        commit = commit_of(place, self.revision, "dataset") if isinstance(place, str) else None
        return self if commit is None else self.model_copy(update={"revision": commit})

    def notes(self) -> list[str]:
        """Return that the data are on the hub: a path that is not on this machine may be a slip."""
        if self.is_local:
            return []
        return [
            f"dataset.path={self.path} is on the hub (no such folder here); it is downloaded when the run starts"
        ]

    @property
    def drops_shared_questions(self) -> bool:
        """Whether training problems that are test problems too are left out."""
        return self.shared_questions == "drop"

    @property
    def prefix_of_ids(self) -> str | None:
        """The name before the number that is an id."""
        return self.ids

    def splits(self) -> Splits:
        """Return the training and the test split, without the rows that the settings leave out."""
        train, test = self._all_rows()
        return Splits(self._chosen(train), self._chosen(test))

    def _chosen(self, source: Source | None) -> Source | None:
        if source is None or not (self.keep or self.unanswered == "drop"):
            return source
        reader = self.reader() if self.unanswered == "drop" else None
        return Chosen(source, tuple(self.keep.items()), None if reader is None else reader.has_answer)

    def _all_rows(self) -> Splits:
        found = sources(self._given(), self.subset, self.revision, "dataset.path")
        if isinstance(found, Source):
            found = {self.train or self.test or "train": found}
        train = None if self.train is None else split_named(found, self.train, self._given(), "dataset.train")
        if self.test_path is not None:
            return Splits(train, self._elsewhere(self.test_path))
        test = self.test or ("test" if "test" in found and self.train != "test" else None)
        return Splits(
            train, None if test is None else split_named(found, test, self._given(), "dataset.test")
        )

    def own_validation(self) -> Iterator[Problem] | None:
        """Return the problems of the split `validation`; None if there is none, or another setting names it."""
        source = self._validation()
        return None if source is None else self._problems_of(source)

    def validation_fingerprint(self) -> str | None:
        """Return a hash of the split `validation` of local files; on the hub the revision covers it."""
        source = self._validation() if self.is_local else None
        return None if source is None else hash_of(source.fingerprint())

    def _validation(self) -> Source | None:
        found = sources(self._given(), self.subset, self.revision, "dataset.path")
        if isinstance(found, Source) or VALIDATION in (self.train, self.test):
            return None
        return self._chosen(found.get(VALIDATION))

    def _problems_of(self, source: Source) -> Iterator[Problem]:
        reader, tests = self.reader(), self._scan().tests
        for number, (place, row) in enumerate(source.rows()):
            problem = reader.problem(row, place)
            if digest_of(problem) not in tests:
                yield replace(problem, id=f"{VALIDATION}-{number:05d}")

    def reader(self) -> Reader:
        """Return how a row becomes a problem."""
        names = self.columns
        settings = {name: f"dataset.columns.{name}" for name in ("question", "answer", "solution")}
        return Reader(
            names.question,
            names.answer,
            names.solution,
            names.id,
            settings,
            self.extract,
            self.remove,
            self.drop,
        )

    def fingerprint(self) -> str:
        """Return a hash of the settings, with the content of local files instead of their path."""
        places = self._places_of_fingerprint()
        values = self.model_dump()
        if {name: values[name] for name in _GSM8K} == _GSM8K:
            # The form that the key of a step on GSM8K had before it became a preset.
            first = self.path if places == {"train": self.path, "test": self.path} else places
            named = {"kind": "gsm8k", "path": first, "config": self.subset, "revision": self.revision}
            return hash_of(named | {"limit": self.limit, "test_limit": self.test_limit})
        del values["path"], values["test_path"]
        return hash_of(values | {"places": places})

    def _places_of_fingerprint(self) -> dict[str, Any]:
        """Return split -> content, without a request to the hub."""
        place = located(self._given(), "dataset.path")
        if isinstance(place, str) and self.test_path is None:
            return {"train": place, "test": place}
        if isinstance(place, str):
            return {"train": place, "test": self._elsewhere(str(self.test_path)).fingerprint()}
        splits = self.splits()
        return {
            name: source.fingerprint()
            for name, source in zip(("train", "test"), splits, strict=True)
            if source is not None
        }

    def _elsewhere(self, path: str) -> Source:
        """Return the test split of `test_path`."""
        place = located(path, "dataset.test_path")
        if isinstance(place, str):
            return Hub(place, self.subset, self.revision, self.test or "test")
        found = sources(path, self.subset, None, "dataset.test_path")
        return (
            found
            if isinstance(found, Source)
            else split_named(found, self.test or "test", path, "dataset.test")
        )

    def _given(self) -> str:
        if self.path is None:
            raise Refused(
                "dataset=hf needs data: add dataset.path=FILE, dataset.path=FOLDER or dataset.path=OWNER/NAME of the hub"
            )
        return self.path


# The preset of GSM8K, but for what its steps' keys name.
_GSM8K: dict[str, Any] = {
    "train": "train", "test": "test", "test_path": None, "num_test": 0, "extract": "hash", "remove": "<<[^<>]*>>",
    "columns": {"question": "question", "answer": "answer", "solution": "answer", "id": None},
    "ids": "gsm8k", "drop": (), "shared_questions": "refuse",
}  # fmt: skip
