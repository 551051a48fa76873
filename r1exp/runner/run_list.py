"""Lists the runs and sweeps below a folder: name, state, objective, age, and what differs between them."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path

from r1exp.errors import R1ExpError, Refused
from r1exp.files import read_json_object
from r1exp.paths import RunPaths, SweepPaths
from r1exp.runner.manifest import texts_in
from r1exp.runner.sweep_status import states_of
from r1exp.terminal import aligned

SORTED_BY = ("age", "name", "objective", "seconds", "state")
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_PER_RUN = ("paths.",)  # overrides that say where a run is, and not what it is


@dataclass(frozen=True)
class ListedRun:
    """A run, or a sweep as one row."""

    folder: Path
    name: str
    state: str  # of a sweep: how many of its runs are in which state
    states: frozenset[str]  # of a sweep those of its runs
    objective: float | None  # of a sweep the largest one
    overrides: tuple[str, ...]  # as typed; of a sweep with all values of a key, separated by commas
    created: float  # seconds since 1970
    seconds: float | None  # that its command ran; None: it has not ended


def run_list(
    folder: Path, wanted: Mapping[str, str], sort: str = "age", limit: int | None = None, width: int = 120
) -> str:
    """Return a table of the runs below a folder.

    Args:
        folder: Of all runs, or of a sweep, whose runs are then listed one by one.
        wanted: `state` and `name` (patterns such as `quick*`), and keys of overrides with the value that was typed.
        sort: One of `SORTED_BY`; the newest, largest or alphabetically first come first.
        limit: How many are listed at most; None: all.
        width: Characters of a line; what differs is cut there.

    Raises:
        Refused: there is no such folder, or `sort` is not a column.
    """
    if not folder.is_dir():
        raise Refused(
            f"{folder}: there is no such folder; name the one that paths.runs names: r1exp runs DIR"
        )
    if sort not in SORTED_BY:
        raise Refused(f"sort={sort}: runs are sorted by {', '.join(SORTED_BY)}")
    found = list(runs_below(folder))
    if not found:
        return f"no runs below {folder}\n"
    chosen = [run for run in found if _is_wanted(run, wanted)]
    chosen.sort(key=lambda run: _order(run, sort))
    shown = chosen[:limit]
    lines = _table(shown, folder, width) if shown else []
    total = f"{len(found)} runs and sweeps below {folder}"
    if len(shown) < len(found):
        total += f", {len(shown)} of them shown"
    return "\n".join([*lines, total]) + "\n"


def runs_below(folder: Path) -> Iterator[ListedRun]:
    """Yield the runs and sweeps below a folder; of a folder that is a sweep, its runs."""
    for place, names, files in os.walk(folder):
        here = Path(place)
        names[:] = sorted(name for name in names if not name.startswith("."))
        if RunPaths(here).manifest.name in files:
            names.clear()
            yield _run(here)
        elif here != folder and {SweepPaths(here).table.name, SweepPaths(here).added_rows.name} & set(files):
            members = [_run(here / name) for name in names if RunPaths(here / name).manifest.is_file()]
            names.clear()
            if members:
                yield _sweep(here, members)


def _run(folder: Path) -> ListedRun:
    paths = RunPaths(folder)
    manifest, summary = read_json_object(paths.manifest), read_json_object(paths.summary)
    state = str(summary.get("state"))
    if state != "done":
        try:
            state = states_of(folder)[0].state
        except R1ExpError:  # without a plan, or SLURM does not answer
            state = "unknown"
    objective = summary.get("objective")
    return ListedRun(
        folder=folder,
        name=str(manifest.get("name", folder.name)),
        state=state,
        states=frozenset({state}),
        objective=None if objective is None else float(objective),
        overrides=tuple(text for text in texts_in(manifest, "overrides") if not text.startswith(_PER_RUN)),
        created=_created(paths.manifest, manifest.get("created")),
        seconds=float(summary["elapsed_seconds"])
        if state == "done" and "elapsed_seconds" in summary
        else None,
    )


def _sweep(folder: Path, members: Sequence[ListedRun]) -> ListedRun:
    counts = Counter(member.state for member in members)
    objectives = [member.objective for member in members if member.objective is not None]
    seconds = [member.seconds for member in members if member.seconds is not None]
    values: dict[str, dict[str, None]] = {}
    for member in members:
        for text in member.overrides:
            key, _, value = text.partition("=")
            values.setdefault(key, {})[value] = None
    return ListedRun(
        folder=folder,
        name=members[0].name,
        state=", ".join(f"{count} {state}" for state, count in counts.items()),
        states=frozenset(counts),
        objective=max(objectives, default=None),
        overrides=tuple(f"{key}={','.join(found)}" for key, found in values.items()),
        created=min(member.created for member in members),
        seconds=sum(seconds) if seconds else None,
    )


def _created(path: Path, text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return path.stat().st_mtime


def _is_wanted(run: ListedRun, wanted: Mapping[str, str]) -> bool:
    for key, pattern in wanted.items():
        if key == "state":
            matches = any(fnmatch(state, each) for state in run.states for each in pattern.split(","))
        elif key == "name":
            matches = fnmatch(run.name, pattern)
        else:
            typed = dict(text.split("=", 1) for text in run.overrides if "=" in text)
            values = typed.get(key, "").split(",")
            matches = key in typed and any(fnmatch(value, pattern) for value in (typed[key], *values))
        if not matches:
            return False
    return True


def _order(run: ListedRun, sort: str) -> tuple[bool, float | str]:
    """Return what runs are sorted by: those without a value last."""
    if sort in ("name", "state"):
        return False, str(getattr(run, sort))
    value = run.created if sort == "age" else run.objective if sort == "objective" else run.seconds
    return value is None, 0.0 if value is None else -value


def _table(runs: Sequence[ListedRun], folder: Path, width: int) -> list[str]:
    common = set.intersection(*(set(run.overrides) for run in runs)) if len(runs) > 1 else set()
    rows = [("folder", "name", "state", "objective", "time", "age", "what differs")]
    now = time.time()
    rows += [
        (
            str(run.folder.relative_to(folder)),
            run.name,
            run.state,
            "-" if run.objective is None else f"{100 * run.objective:.1f} %",
            "-" if run.seconds is None else in_one_unit(run.seconds),
            in_one_unit(max(0.0, now - run.created)),
            " ".join(text for text in run.overrides if text not in common),
        )
        for run in runs
    ]
    return [line if len(line) <= width else f"{line[: width - 3]}..." for line in aligned(rows)]


def in_one_unit(seconds: float) -> str:
    """Return a number of seconds in the largest unit that gives at least 1: `3 min`, `2 h`, `5 d`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
