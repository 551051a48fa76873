"""Reads the results that lm_eval 0.4 and lighteval 0.13 write. Torch-free.

Both write a JSON file with the value and the standard error of each metric, and a file for each task with the metrics of each
problem, from which two models are compared on the same problems.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from r1exp.errors import StepFailed
from r1exp.evaluation.outcomes import accuracy
from r1exp.files import read_json_object
from r1exp.statistics.intervals import Z

DECODING = "harness"  # stands where a suite of r1exp has sampled or greedy


@dataclass(frozen=True)
class Task:
    """The results of one task."""

    name: str
    metrics: dict[
        str, tuple[float, float | None]
    ]  # metric -> value and standard error (None: the harness states none)
    num_problems: int
    problem_ids: list[str] = field(default_factory=list)
    outcomes: dict[str, list[list[bool]]] = field(default_factory=dict)  # of metrics that are true or false

    def to_json(self) -> dict[str, Any]:
        """Return the task as a suite of scores.json."""
        metrics = {name: self._interval(name, *value) for name, value in self.metrics.items()}
        return {"metrics": {DECODING: metrics}, "problem_ids": self.problem_ids, "outcomes": self.outcomes}

    def _interval(self, name: str, value: float, error: float | None) -> dict[str, Any]:
        """Return value, n, low, high and the harness's stderr; of outcomes, Wilson's interval."""
        found: dict[str, Any] = {
            "value": value,
            "n": self.num_problems,
            "low": None,
            "high": None,
            "stderr": error,
        }
        if name in self.outcomes:
            interval = asdict(accuracy(self.outcomes[name]))
            return found | {"low": interval["low"], "high": interval["high"]}
        if error is not None:
            found |= {"low": value - Z * error, "high": value + Z * error}
        return found


def tasks_of_lm_eval(folder: Path) -> list[Task]:
    """Return the tasks of a folder that lm_eval wrote. A group is a task without problems of its own.

    Raises:
        StepFailed: it has no results.
    """
    path = _newest(folder, "results_*.json")
    content = read_json_object(path)
    return [
        _task_of_lm_eval(name, values, content, path.parent) for name, values in content["results"].items()
    ]


def _task_of_lm_eval(name: str, values: dict[str, Any], content: dict[str, Any], folder: Path) -> Task:
    metrics = {
        key: (float(value), _number(values.get(f"{metric}_stderr,{rest}")))
        for key, value in values.items()
        for metric, comma, rest in [key.partition(",")]
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float)
    }
    rows = list(_rows(folder, f"samples_{name}_*.jsonl"))
    outcomes: dict[str, list[list[bool]]] = {}
    for key in metrics:
        metric, _, rest = key.partition(",")
        outcomes |= _outcomes(key, [row.get(metric) for row in rows if row.get("filter") == rest])
    ids = list(dict.fromkeys(str(row.get("doc_hash", row["doc_id"])) for row in rows))
    number = content.get("n-samples", {}).get(name, {}).get("effective", len(ids))
    return Task(name, metrics, int(number), ids, outcomes)


def tasks_of_lighteval(folder: Path) -> list[Task]:
    """Return the tasks of a folder that lighteval wrote.

    Raises:
        StepFailed: it has no results.
    """
    import pyarrow.parquet as parquet  # it has no stubs

    content = read_json_object(_newest(folder, "results_*.json"))
    tasks = []
    for name, values in content["results"].items():
        if name == "all":
            continue
        metrics = {
            key: (float(value), _number(values.get(f"{key}_stderr")))
            for key, value in values.items()
            if not key.endswith("_stderr") and isinstance(value, int | float)
        }
        files = sorted(path for path in folder.rglob("details_*.parquet") if f"details_{name}_" in path.name)
        rows = parquet.read_table(files[-1], columns=["doc", "metric"]).to_pylist() if files else []
        outcomes: dict[str, list[list[bool]]] = {}
        for key in metrics:
            outcomes |= _outcomes(key, [row["metric"].get(key) for row in rows])
        ids = [str(row["doc"].get("query")) for row in rows]
        tasks.append(Task(name, metrics, len(rows), ids, outcomes))
    return tasks


def _outcomes(key: str, values: Sequence[Any]) -> dict[str, list[list[bool]]]:
    """Return the outcomes of a metric, if each of its values is 0 or 1."""
    if values and all(value in (0, 1) for value in values):
        return {key: [[bool(value)] for value in values]}
    return {}


def _rows(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(pattern))[-1:]:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if not found:
        raise StepFailed(f"the harness ended without an error, and wrote no {pattern} in {folder}")
    return found[-1]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
