"""Mixes several data sets into one: shares, limits, and an order that depends on nothing but the settings.

    dataset.parts.math={preset: gsm8k, weight: 3}  dataset.parts.chat={preset: general, weight: 1}

Every problem gets the column `source`, the name of its part, so that a reward can judge some parts only (`applies_to`), and
an id that begins with it.

The order: the k-th problem of a part (from 0) is due at (k + 0.5) / share, and the problem that is due first comes first. So
every beginning of the mixture holds the shares within one problem of each part. Without weights a part's share is its
number of problems, and every problem is in the mixture once. With weights the mixture ends when the part whose turn it is has
no more problems. One problem of each part is held in memory, and the digests of all test questions.
"""

import heapq
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, PositiveFloat, PositiveInt, create_model, model_validator

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.dataset.columns import ColumnTypes, digest_of
from r1exp.dataset.menu import DATASETS
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.paths import ARTIFACT, ArtifactPaths
from r1exp.records import Problem
from r1exp.registry import Registry

SOURCE = "source"  # the column with the name of the part
_KIND = "mixture"
_MAX_COUNTS = 64  # mixtures whose counts are remembered in a process


class Part(Dataset):
    """A data set as one part of a mixture, with its share; `PARTS` adds these settings to the class of each kind."""

    without_share: ClassVar[type[Dataset]]  # the class of its kind

    weight: PositiveFloat | None = (
        None  # share, relative to the other parts; null, in all of them: as large as it is
    )
    limit: PositiveInt | None = None  # the first training problems; null: all

    @property
    def artifacts_read(self) -> frozenset[str]:
        """The earlier steps whose artifacts it reads, which do not exist while the run is planned."""
        texts = (value for value in self.model_dump().values() if isinstance(value, str))
        return frozenset(
            text.removeprefix(ARTIFACT).partition("/")[0] for text in texts if text.startswith(ARTIFACT)
        )

    def count(self, split: Split) -> int | None:
        """Return the number of problems of one split; None: not known before a download, or before a step has run."""
        number = None if self.artifacts_read else super().count(split)
        return number if number is None or split == "test" else min(number, self.limit or number)

    def stream(self, split: Split) -> Iterator[Problem]:
        """Yield the problems of one split, of the training split at most `limit`."""
        return islice(super().stream(split), self.limit if split == "train" else None)

    def fingerprint_of(self, split: Split) -> str:
        """Return a hash of one split; the key of a step that makes the data is part of the reading step's own."""
        return hash_of(self.model_dump()) if self.artifacts_read else self._alone().fingerprint_of(split)

    def _alone(self) -> Dataset:
        """Return the data set that it would be outside of a mixture."""
        own = self.model_dump(mode="json", include=set(self.without_share.model_fields))
        return self.without_share.model_validate_json(json.dumps(own), strict=True)


class PartRegistry(Registry[Part]):
    """The kinds of data sets, each with the settings of a part."""

    def find(self, kind: str) -> type[Part]:
        """Return the class of a kind with the settings of a part.

        Raises:
            ValueError: there is no such kind, or it cannot be a part.
        """
        if kind == _KIND:
            raise ValueError("a mixture cannot be a part of a mixture; name its parts here")
        return _as_part(DATASETS.find(kind))

    def validate(self, value: Any) -> Part:
        """Return `value` as a part; a path that names a step only is that of the data the step makes."""
        path = value.get("path") if isinstance(value, dict) else None
        if isinstance(path, str) and path.startswith(ARTIFACT) and "/" not in path:
            value = {**value, "path": str(ArtifactPaths.of_step(path.removeprefix(ARTIFACT)).data)}
        return super().validate(value)

    def kinds(self) -> list[str]:
        """Return every kind that has a name, sorted."""
        return [kind for kind in DATASETS.kinds() if kind != _KIND]


@cache
def _as_part(found: type[Dataset]) -> type[Part]:
    taken = {"weight"} & found.model_fields.keys()
    if taken:
        raise ValueError(
            f"{found.__name__} has a setting `weight` of its own; rename it to use it in a mixture"
        )
    make: Any = create_model  # mypy cannot know what a class that is made here has
    made: type[Part] = make(f"{found.__name__}Part", __base__=(Part, found), __module__=found.__module__)
    made.without_share = found
    return made


def _part_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w-]*", name):
        raise ValueError(f"{name!r} is no name of a part; use letters, digits, _ and -, a letter first")
    return name


PARTS = PartRegistry("dataset", Part, {})
PartSettings = Annotated[Part, PARTS]
PartName = Annotated[str, AfterValidator(_part_name)]


@dataclass(frozen=True)
class _Counts:
    """What one pass over the training problems found."""

    by_part: dict[str, int]  # problems of each part in the mixture
    num_shared: int  # problems left out, because another part tests their questions


class Mixture(Dataset):
    """The problems of several data sets, interleaved."""

    kind: Literal["mixture"]
    parts: dict[PartName, PartSettings]  # name -> settings of a data set, with `weight` and `limit`
    shared_questions: Literal[
        "refuse", "drop"
    ]  # what is done with training questions that another part tests

    @model_validator(mode="after")
    def _the_parts_fit_together(self) -> Self:
        if not self.parts:
            raise ValueError(
                "dataset=mixture has no parts; name some: dataset.parts.NAME=OPTION, as dataset.parts.math=gsm8k"
            )
        weighted = {name: part.weight is not None for name, part in self.parts.items()}
        if any(weighted.values()) and not all(weighted.values()):
            name = next(name for name, has_weight in weighted.items() if not has_weight)
            raise ValueError(
                f"dataset.parts.{name}.weight is null, and other parts have weights; give every part a weight, or none (then "
                "each part has as large a share as it has problems)"
            )
        in_order = next((name for name, part in self.parts.items() if part.order is not None), None)
        if in_order is not None:
            raise ValueError(
                f"dataset.parts.{in_order}.order: the order of training is that of the whole mixture; type dataset.order=..."
            )
        if not any(part.has_split("train") for part in self.parts.values()):
            raise ValueError(
                f"no part has training problems ({', '.join(self.parts)}); to evaluate on several data sets, type "
                "evaluation.suites=[...]"
            )
        return self

    @property
    def has_answers(self) -> bool:  # type: ignore[override]  # a constant of other data sets
        """Whether a part has gold answers, so that a model can be evaluated on it."""
        return any(part.has_answers for part in self.parts.values())

    @property
    def has_pairs(self) -> bool:  # type: ignore[override]  # a constant of other data sets
        """Whether every problem is a pair of a chosen and a rejected answer."""
        return all(part.has_pairs for part in self.parts.values())

    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split.

        Raises:
            Refused: a part cannot be read, or a training question is one that another part tests.
        """
        return list(self.stream(split))

    def stream(self, split: Split) -> Iterator[Problem]:
        """Yield the problems of one split in the order of the mixture; a test split has no problems without gold answers."""
        if split == "test":
            return self._tested()
        return (problem for problem, _ in self._trained() if problem is not None)

    def count(self, split: Split) -> int | None:
        """Return the number of problems of one split; None: not known before a download, or before a step has run."""
        parts = self._parts_of(split) | self._parts_of("test")
        if any(
            self._count_of(name, own) is None
            for name in parts
            for own in SPLITS
            if self.parts[name].has_split(own)
        ):
            return None
        return sum(1 for _ in self._tested()) if split == "test" else sum(self._counts().by_part.values())

    def first(self, split: Split, num_problems: int) -> list[Problem]:
        """Return the first problems of one split, without reading the others a second time."""
        return list(islice(self.stream(split), num_problems))

    def fingerprint(self) -> str:
        """Return a hash of both splits."""
        return hash_of([self.fingerprint_of(split) for split in SPLITS])

    def fingerprint_of(self, split: Split) -> str:
        """Return a hash of what decides one split: for training also the test questions, which are kept out."""
        tested = [[name, self._hash_of(name, "test")] for name in self._parts_of("test")]
        if split == "test":
            return hash_of([_KIND, tested])
        trained = [
            [name, part.weight, part.limit, self._hash_of(name, "train")]
            for name, part in self._parts_of("train").items()
        ]
        return hash_of([_KIND, self.shared_questions, trained, tested])

    def pinned(self) -> Self:
        """Return the same mixture with commits instead of branches."""
        parts = {
            name: part if part.artifacts_read else self._of(name, part.pinned)
            for name, part in self.parts.items()
        }
        return self.model_copy(update={"parts": parts})

    def members(self) -> tuple[Dataset, ...]:
        """Return this data set and those that it consists of."""
        return (self, *(found for part in self.parts.values() for found in part.members()))

    def artifacts(self, split: Split) -> frozenset[str]:
        """Return the earlier steps whose artifacts one split reads."""
        parts = self._parts_of(split) | self._parts_of("test")
        return frozenset(name for part in parts.values() for name in part.artifacts_read)

    def check_source(self) -> None:
        """Raise Refused if a part on the hub cannot be downloaded."""
        for name, part in self.parts.items():
            if not part.artifacts_read:
                self._of(name, part.check_source)

    def notes(self) -> list[str]:
        """Return where the parts are, how many problems each gives, and which are not evaluated."""
        found = [
            _renamed(note, name, part)
            for name, part in self.parts.items()
            if not part.artifacts_read
            for note in part.notes()
        ]
        if self.count("train") is not None:
            counts = self._counts()
            unused = {name: int(size) - counts.by_part[name] for name, size in self._sizes("train").items()}
            if sum(unused.values()) > counts.num_shared:
                taken = (f"{counts.by_part[name]:,} of {name}" for name in counts.by_part)
                left = ", ".join(f"{number:,} of {name}" for name, number in unused.items() if number)
                found.append(f"the weights take {', '.join(taken)} for training, and leave out {left}")
            if counts.num_shared:
                found.append(
                    f"{counts.num_shared} training problems are left out, because another part tests their questions"
                )
        silent = [name for name in self.parts if name not in self._parts_of("test")]
        if silent and self.has_answers:
            found.append(f"not evaluated, without gold answers or test problems: {', '.join(silent)}")
        return found

    def unteachable(self) -> str | None:
        """Return which training problem SFT cannot learn from, and in which part it is."""
        for name, part in self._parts_of("train").items():
            found = None if part.artifacts_read else self._of(name, part.unteachable)
            if found is not None:
                return f"dataset.parts.{name}: {found}"
        return None

    def _parts_of(self, split: Split) -> dict[str, Part]:
        """Return the parts that one split consists of: for testing those with gold answers, if there are any."""
        found = {name: part for name, part in self.parts.items() if part.has_split(split)}
        if split == "test" and self.has_answers:
            found = {name: part for name, part in found.items() if part.has_answers}
        return found

    def _tested(self) -> Iterator[Problem]:
        for name, problem in self._interleaved("test", self._sizes("test"), stops=False):
            if not self.has_answers or (problem.answer or "").strip():
                yield _from_part(problem, name)

    def _trained(self) -> Iterator[tuple[Problem | None, str]]:
        """Yield (training problem, part); None in place of a problem that is left out."""
        tests = {digest_of(problem): str(problem.columns[SOURCE]) for problem in self._tested()}
        types = ColumnTypes()
        weights = {name: part.weight for name, part in self._parts_of("train").items()}
        is_weighted = all(weight is not None for weight in weights.values())
        shares = (
            {name: weight or 0.0 for name, weight in weights.items()} if is_weighted else self._sizes("train")
        )
        for name, problem in self._interleaved("train", shares, stops=is_weighted):
            tested_by = tests.get(digest_of(problem))
            if tested_by is not None and self.shared_questions == "refuse":
                raise Refused(
                    f"dataset.parts.{name}: the question of problem {problem.id!r} is a test question of the part {tested_by!r}, "
                    "and a test problem must not be trained on; type dataset.shared_questions=drop to leave such problems out"
                )
            made = _from_part(problem, name)
            types.add(dict(made.columns), f"dataset.parts.{name}, problem {problem.id!r}")
            yield (None if tested_by is not None else made), name

    def _interleaved(
        self, split: Split, shares: Mapping[str, float], *, stops: bool
    ) -> Iterator[tuple[str, Problem]]:
        """Yield (part, problem) in the order in which the problems are due.

        Args:
            split: The split that is read.
            shares: Of each part, in any unit.
            stops: Whether the mixture ends when a part whose turn it is has no more problems.
        """
        parts = self._parts_of(split)
        streams = {name: self._read(name, split) for name in parts if shares[name] > 0}
        order = {name: position for position, name in enumerate(streams)}
        due = [(0.5 / shares[name], order[name], name, 0) for name in streams]
        heapq.heapify(due)
        while due:
            _, position, name, number = heapq.heappop(due)
            problem = next(streams[name], None)
            if problem is not None:
                yield name, problem
                heapq.heappush(due, ((number + 1.5) / shares[name], position, name, number + 1))
            elif stops:
                return

    def _sizes(self, split: Split) -> dict[str, float]:
        """Return the number of problems of each part; problems on the hub are counted by reading them."""
        sizes = {}
        for name in self._parts_of(split):
            known = self._count_of(name, split)
            sizes[name] = float(sum(1 for _ in self._read(name, split)) if known is None else known)
        return sizes

    def _counts(self) -> _Counts:
        key = (self.model_dump_json(), self.fingerprint())
        if key not in _COUNTS:
            if len(_COUNTS) >= _MAX_COUNTS:
                _COUNTS.clear()
            by_part = dict.fromkeys(self._parts_of("train"), 0)
            num_shared = 0
            for problem, name in self._trained():
                by_part[name] += problem is not None
                num_shared += problem is None
            _COUNTS[key] = _Counts(by_part, num_shared)
        return _COUNTS[key]

    def _count_of(self, name: str, split: Split) -> int | None:
        with _named(name, self.parts[name]):
            return self.parts[name].count(split)

    def _hash_of(self, name: str, split: Split) -> str:
        with _named(name, self.parts[name]):
            return self.parts[name].fingerprint_of(split)

    def _read(self, name: str, split: Split) -> Iterator[Problem]:
        with _named(name, self.parts[name]):
            yield from self.parts[name].stream(split)

    def _of(self, name: str, call: Any) -> Any:
        with _named(name, self.parts[name]):
            return call()


_COUNTS: dict[tuple[str, str], _Counts] = {}


@contextmanager
def _named(name: str, part: Part) -> Iterator[None]:
    """Add the name of the part to a refusal, and write its settings as they are typed for a part."""
    try:
        yield
    except Refused as error:
        raise Refused(f"dataset.parts.{name}: {_renamed(str(error), name, part)}") from error


def _renamed(text: str, name: str, part: Part) -> str:
    fields = "|".join(type(part).model_fields)
    return re.sub(rf"\bdataset\.(?=(?:{fields})\b)", f"dataset.parts.{name}.", text)


def _from_part(problem: Problem, name: str) -> Problem:
    """Return a problem with the name of its part in its id and in the column `source`."""
    columns = dict(problem.columns)
    if SOURCE in columns:
        kept = f"row_{SOURCE}"
        if kept in columns:
            raise Refused(
                f"dataset.parts.{name}, problem {problem.id!r}: the column {SOURCE!r} would become {kept!r}, which is there "
                f"already; rename one of the two in the file, or leave it out: dataset.parts.{name}.drop=[{kept}]"
            )
        columns[kept] = columns.pop(SOURCE)
    return replace(problem, id=f"{name}/{problem.id}", columns={**columns, SOURCE: name})
