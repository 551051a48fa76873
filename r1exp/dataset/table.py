"""Base of the data sets that read rows: two splits, or one from which questions are held out.

The questions with the smallest SHA-256 are held out, so that the choice depends only on the questions, and not on the
order of rows or on the other columns.

The rows are read twice: first all of them are judged and counted (`_Scan`, once in a process), then the problems are
made. Neither keeps the rows in memory: the first pass keeps the digests of the test questions.
"""

import heapq
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from pydantic import NonNegativeInt, PositiveInt

from r1exp.dataset.base import Dataset, Split
from r1exp.dataset.columns import ColumnTypes, Reader, digest_of
from r1exp.dataset.rows import Row, names_in, shortened
from r1exp.dataset.sources import Source
from r1exp.errors import Refused
from r1exp.records import Problem
from r1exp.settings import nearest


class Splits(NamedTuple):
    """Where the rows of each split are."""

    train: Source | None  # None: there are no training problems
    test: Source | None  # None: questions of `train` are held out


@dataclass(frozen=True)
class _Scan:
    """What the first pass over the rows found."""

    num_train: int
    num_test: int
    tests: frozenset[int]  # digests of the test questions
    unteachable: str | None  # why the first training problem without a worked solution cannot be learned from


class Table(Dataset):
    """A data set whose problems are rows."""

    num_test: NonNegativeInt  # questions held out if there is no test split
    limit: PositiveInt | None  # the first training problems; null: all
    test_limit: PositiveInt | None  # the first test problems; null: all

    @abstractmethod
    def splits(self) -> Splits:
        """Return where the rows are.

        Raises:
            Refused: there are none.
        """

    @abstractmethod
    def reader(self) -> Reader:
        """Return how a row becomes a problem."""

    @property
    def is_local(self) -> bool:
        """Whether all rows are on this machine; if not, they are downloaded when the run starts."""
        return True

    @property
    def has_training_split(self) -> bool:
        """Whether there are problems to train on, and not only to evaluate."""
        return True

    @property
    def prefix_of_ids(self) -> str | None:
        """The name before the number that is an id; None: an id is that of the row, or a hash of its question."""
        return None

    @property
    def drops_shared_questions(self) -> bool:
        """Whether training problems that are test problems too are left out; otherwise they are refused."""
        return False

    def has_test_problems(self, *, with_download: bool = False) -> bool:
        """Return whether there is a test split, or questions are held out."""
        if self.num_test > 0 or not (self.is_local or with_download):
            return True
        return self.splits().test is not None

    def has_split(self, split: Split) -> bool:
        """Return whether there are problems of one split: for testing, a split that is named, or questions held out."""
        return self.has_training_split if split == "train" else self.num_test > 0 or self.has_test_split

    @property
    def has_test_split(self) -> bool:
        """Whether the test problems are rows of their own, and not held out."""
        return self.splits().test is not None

    def load(self, split: Split) -> list[Problem]:
        """Return the first `limit` problems of a split.

        Raises:
            Refused: the data cannot be read; the message names file and row.
        """
        return list(self.stream(split))

    def count(self, split: Split) -> int | None:
        """Return the number of problems, or None if they are on the hub."""
        self._refuse_missing(split)
        if not self.is_local:
            return None
        self._refuse_nothing_held_out(split, self.splits())
        scan = self._scan()
        return scan.num_train if split == "train" else scan.num_test

    def first(self, split: Split, num_problems: int) -> list[Problem]:
        """Return the first problems of one split, without reading the others a second time."""
        return list(islice(self.stream(split), num_problems))

    def unteachable(self) -> str | None:
        """Return where the first training problem without a worked solution is; None if there is none, or unknown."""
        return self._scan().unteachable if self.is_local and self.has_training_split else None

    def stream(self, split: Split) -> Iterator[Problem]:
        """Yield the first `limit` problems of a split, one at a time."""
        self._refuse_missing(split)
        places = self.splits()
        self._refuse_nothing_held_out(split, places)
        tests = self._scan().tests
        problems = (problem for problem, _, _ in self._problems(split, places, tests))
        return islice(problems, self.limit if split == "train" else self.test_limit)

    def _refuse_missing(self, split: Split) -> None:
        if split == "train" and not self.has_training_split:
            raise Refused(
                "dataset.train=null: this data set is for evaluation and has no training problems; type dataset.train=SPLIT, or "
                "use it with stage=evaluate"
            )

    def _refuse_nothing_held_out(self, split: Split, places: Splits) -> None:
        if split == "test" and places.test is None and self.num_test == 0:
            raise Refused(
                "no problem is held out (dataset.num_test=0), so nothing can be evaluated; raise "
                "dataset.num_test, or give dataset.test_path=FILE.jsonl"
            )

    def _problems(
        self, split: Split, places: Splits, tests: frozenset[int]
    ) -> Iterator[tuple[Problem, Row, str]]:
        """Yield the problems of a split with their rows, and with ids that are unique in it."""
        held_out = places.test is None
        source = places.train if split == "train" or held_out else places.test
        assert source is not None
        reader, ids, number = self.reader(), _Ids(), 0
        for place, row in source.rows():
            problem = reader.problem(row, place)
            if split == "test" and places.test is not None and not reader.can_test(problem):
                continue
            if split == "train" or held_out:
                is_test = bool(tests) and digest_of(problem) in tests
                if is_test != (split == "test"):
                    if held_out and reader.identity is not None and reader.identity in row:
                        ids.unused(problem.id)  # a row of the other split may have the same id
                    continue
                if is_test and not reader.can_test(problem):
                    continue
            prefix = self.prefix_of_ids
            identity = ids.unused(problem.id) if prefix is None else f"{prefix}-{split}-{number:04d}"
            number += 1
            yield _with_id(problem, identity), row, place

    def _scan(self) -> _Scan:
        places = self.splits()
        key = (self.model_dump_json(), *(None if source is None else source.state() for source in places))
        if key not in _SCANS:
            if len(_SCANS) >= _MAX_SCANS:
                _SCANS.clear()
            _SCANS[key] = self._scanned(places)
        return _SCANS[key]

    def _scanned(self, places: Splits) -> _Scan:
        """Read every row that the limits leave, and judge it."""
        if places.train is None:
            assert places.test is not None
            judge = _Judge(self.reader())
            num_test = sum(1 for _ in islice(judge.tests(places.test), self.test_limit))
            judge.finish()
            return _Scan(0, num_test, frozenset(), None)
        return self._held_out(places.train) if places.test is None else self._two(places.train, places.test)

    def _two(self, train: Source, test: Source) -> _Scan:
        judge = _Judge(self.reader())
        tests: set[int] = set()
        num_test = 0
        for problem, _ in islice(judge.tests(test), self.test_limit):
            tests.add(digest_of(problem))
            num_test += 1
        judge.finish()
        judge = _Judge(self.reader())
        num_train, shared, example = 0, 0, ""
        for problem, place in judge.problems(train):
            if digest_of(problem) in tests:
                shared += 1
                example = example or f"{shortened(problem.prompt)!r} in {place}"
                continue
            judge.teaches(problem, place)
            num_train += 1
            if num_train == self.limit:
                break
        judge.finish()
        if shared and not self.drops_shared_questions:
            raise Refused(
                f"{shared} questions are in both the training and the test problems, e.g. "
                f"{example}; a test problem must not be trained on; remove them from one file, or use dataset=hf with "
                "dataset.shared_questions=drop"
            )
        return _Scan(num_train, num_test, frozenset(tests), judge.unteachable)

    def _held_out(self, train: Source) -> _Scan:
        judge, chosen = _Judge(self.reader()), _Smallest(self.num_test)
        num_rows = 0
        for problem, place in judge.problems(train):
            chosen.add(digest_of(problem), tests=judge.reader.can_test(problem))
            judge.teaches(problem, place)
            num_rows += 1
        judge.finish()
        if not chosen.left_some:
            raise Refused(
                f"{place} and the rows before it have {len(chosen.rows)} different questions, and holding out "
                f"dataset.num_test={self.num_test} of them leaves none to train on; lower dataset.num_test, or give "
                "dataset.test_path"
            )
        num_test = sum(chosen.tests.values())
        num_train = num_rows - sum(chosen.rows.values())
        limits = (self.limit or num_train, self.test_limit or num_test)
        return _Scan(
            min(num_train, limits[0]), min(num_test, limits[1]), frozenset(chosen.rows), judge.unteachable
        )


_SCANS: dict[Any, _Scan] = {}
_MAX_SCANS = 64


class _Judge:
    """Reads the rows of a source, and refuses what a trainer could not store."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._types = ColumnTypes()
        self._names: list[str] | None = None  # of the first row
        self._has_solutions = False
        self.unteachable: str | None = None

    def problems(self, source: Source) -> Iterator[tuple[Problem, str]]:
        """Yield (problem, place)."""
        for place, row in source.rows():
            problem = self.reader.problem(row, place)
            self._types.add(dict(problem.columns), place)
            self._has_solutions = self._has_solutions or self.reader.has_solution_column(row)
            if self._names is None:
                self._names = names_in(row)
            yield problem, place

    def tests(self, source: Source) -> Iterator[tuple[Problem, str]]:
        """Yield (problem, place) of the problems that a model can be evaluated on."""
        return ((problem, place) for problem, place in self.problems(source) if self.reader.can_test(problem))

    def teaches(self, problem: Problem, place: str) -> None:
        """Note the first training problem that SFT could not learn from."""
        if self.unteachable is not None or problem.completion is not None:
            return
        if problem.columns.get("solution") is None:
            self.unteachable = f"{place}: the row has no solution (dataset column {self.reader.solution!r})"
        elif problem.answer is None:
            self.unteachable = f"{place}: the row has no answer"

    def finish(self) -> None:
        """Refuse the name of a solution column that is in no row; only the usual name may be absent."""
        name = self.reader.solution
        if self._has_solutions or name in (None, "solution") or self._names is None:
            return
        setting = self.reader.settings["solution"]
        suggestion = nearest(str(name), self._names) or self._names
        raise Refused(
            f"no row has the column {name!r}; the first has {self._names}; name the right one, e.g. "
            f"{setting}={suggestion[0]}, or type {setting}=null"
        )


class _Smallest:
    """Keeps the smallest digests of all, and how many rows have each."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._heap: list[int] = []  # negated, so that the largest comes first
        self.rows: dict[int, int] = {}  # digest -> rows
        self.tests: Counter[int] = Counter()  # digest -> rows that a model can be evaluated on
        self.left_some = False  # some question is not among them

    def add(self, digest: int, *, tests: bool) -> None:
        self._choose(digest)
        if tests and digest in self.rows:
            self.tests[digest] += 1

    def _choose(self, digest: int) -> None:
        if digest in self.rows:
            self.rows[digest] += 1
        elif len(self.rows) < self._number:
            heapq.heappush(self._heap, -digest)
            self.rows[digest] = 1
        else:
            self.left_some = True
            if self._heap and digest < -self._heap[0]:
                largest = -heapq.heapreplace(self._heap, -digest)
                del self.rows[largest], self.tests[largest]
                self.rows[digest] = 1


class _Ids:
    """Makes ids unique, in constant time for each: a second `a` becomes `a-2`."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}  # id -> number of the next one like it

    def unused(self, identity: str) -> str:
        if identity not in self._next:
            self._next[identity] = 2
            return identity
        number = self._next[identity]
        while (name := f"{identity}-{number}") in self._next:
            number += 1
        self._next[identity] = number + 1
        self._next[name] = 2
        return name


def _with_id(problem: Problem, identity: str) -> Problem:
    if problem.id == identity:
        return problem
    return Problem(
        identity, problem.prompt, problem.answer, problem.columns, problem.earlier, problem.completion
    )
