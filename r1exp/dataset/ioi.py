"""Joins the problems of the IOI with their tests, which are published as a data set of their own.

    problems   open-r1/ioi              one row for each subtask: year, id, problem, test_names, score, time_limit, ...
    tests      open-r1/ioi-test-cases   one row for each test: year, problem_id, test_name, test_input, test_output

A problem gets the column `test_cases`, the [input, output] of each of its tests in the order of `test_names`, which
`rewards=code_ioi` runs. The tests that some problem names are held in memory, up to 20 MB each: `most_tests` and `years` bound
them.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from r1exp.dataset.hf import Hf
from r1exp.dataset.rows import Rows, value_in
from r1exp.dataset.sources import Chosen, Hub, Source, check_hub, located, sources, split_named
from r1exp.dataset.table import Splits
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.settings import Name

_SETTING = "dataset.tests"
_TEST_COLUMNS = ("problem_id", "test_name", "test_input", "test_output")


@dataclass(frozen=True)
class WithTests(Source):
    """The rows of problems, each with its tests."""

    problems: Source
    tests: tuple[Source, ...]
    most_tests: int | None  # of a row; None: all

    def rows(self) -> Rows:
        """Yield the problems with the column `test_cases`.

        Raises:
            Refused: a column does not exist, or a test of a problem is nowhere.
        """
        problems = [(place, dict(row)) for place, row in self.problems.rows()]
        wanted: set[tuple[str, str]] = set()
        for place, row in problems:
            value_in(row, "id", place, "the column id")
            names = value_in(row, "test_names", place, "the column test_names") or []
            row["test_names"] = list(names)[: self.most_tests]
            wanted |= {(str(row["id"]), name) for name in row["test_names"]}
        found: dict[tuple[str, str], list[str]] = {}
        for source in self.tests:
            for place, row in source.rows():
                problem, name, given, expected = (
                    value_in(row, column, place, _SETTING) for column in _TEST_COLUMNS
                )
                if (str(problem), name) in wanted:
                    found[str(problem), name] = [given or "", expected or ""]
        for place, row in problems:
            missing = [name for name in row["test_names"] if (str(row["id"]), name) not in found]
            if missing:
                raise Refused(
                    f"{place}: {len(missing)} tests of the problem {row['id']!r} are not in {_SETTING}, first {missing[0]!r}; "
                    "name the right file or folder, or leave their year out of dataset.years"
                )
            yield place, {**row, "test_cases": [found[str(row["id"]), name] for name in row["test_names"]]}

    def fingerprint(self) -> Any:
        """Return that of the problems and of the tests."""
        return [self.problems.fingerprint(), *(source.fingerprint() for source in self.tests)]

    def state(self) -> Any:
        """Return that of the problems and of the tests."""
        return (self.problems.state(), *(source.state() for source in self.tests))


class Ioi(Hf):
    """Subtasks of the IOI with their tests."""

    kind: Literal["ioi"]  # type: ignore[assignment]  # another kind than its base
    tests: Name  # hub id, file or folder of the tests
    years: Annotated[
        tuple[int, ...], Field(min_length=1)
    ]  # of the problems; on the hub also the subsets of the tests
    most_tests: PositiveInt | None  # tests of a subtask, the first by their order in `test_names`; null: all

    @property
    def is_local(self) -> bool:
        """Whether neither the problems nor the tests are on the hub."""
        return super().is_local and not isinstance(located(self.tests, _SETTING), str)

    def check_source(self) -> None:
        """Raise Refused if problems or tests are on the hub and cannot be downloaded."""
        super().check_source()
        place = located(self.tests, _SETTING)
        if isinstance(place, str):
            check_hub(place, None)

    def splits(self) -> Splits:
        """Return the training and the test split, joined with their tests."""
        tests = self._tests()
        train, test = (
            None
            if source is None
            else WithTests(Chosen(source, (("year", self.years),), None), tests, self.most_tests)
            for source in super().splits()
        )
        return Splits(train, test)

    def fingerprint(self) -> str:
        """Return a hash of the settings, and of the content of local files."""
        return hash_of([super().fingerprint(), [source.fingerprint() for source in self._tests()]])

    def _tests(self) -> tuple[Source, ...]:
        """Return the tests: of a file, of a folder whose files or folders are named after years, or of the hub."""
        place = located(self.tests, _SETTING)
        if isinstance(place, str):
            return tuple(Hub(place, str(year), None, "train") for year in self.years)
        if place.is_file():
            found = sources(self.tests, None, None, _SETTING)
            assert isinstance(found, Source)
            return (found,)
        listed = []
        for year in self.years:
            found = sources(self.tests, str(year), None, _SETTING)
            listed.append(
                found if isinstance(found, Source) else split_named(found, "train", self.tests, _SETTING)
            )
        return tuple(dict.fromkeys(listed))
