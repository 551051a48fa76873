"""Reads a run directory for a report, finished or not, of this version of r1exp or an earlier one. Only reads files; torch-free."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import R1ExpError, Refused
from r1exp.files import read_json_object
from r1exp.paths import RunPaths, StepPaths
from r1exp.plan.run_plan import has_plan, read_plan
from r1exp.report.facts import training_facts
from r1exp.report.summary import add_corrected, summarize
from r1exp.step.status import read_status

Json = dict[str, Any]
_LOG_LINES = 20  # of the log of a step that failed
_LOG_BYTES = 20_000  # read from the end of a log


@dataclass(frozen=True)
class RunRecord:
    """What a report knows about one run."""

    name: str  # unique in a report
    folder: Path
    summary: Json
    manifest: Json
    plan: Json  # the content of plan.json, not validated: another version may have written it

    @property
    def steps(self) -> list[Json]:
        """The planned steps: `name`, `label`, `index`, `config`, ..."""
        return [step for step in self.plan.get("steps", []) if isinstance(step, dict)]

    def paths(self, step: Json) -> StepPaths:
        """Return the paths of a planned step."""
        return RunPaths(self.folder).step(int(step["index"]), str(step["name"]))

    def labelled(self, label: str) -> StepPaths | None:
        """Return the paths of the step whose accuracies have a label, or None."""
        return next((self.paths(step) for step in self.steps if step.get("label") == label), None)

    def rule_metric(self, step: Json, rule: str) -> str | None:
        """Return the metric that a health rule of a step reads, or None."""
        rules = step.get("config", {}).get("health", {}).get("rules", {})
        return rules.get(rule, {}).get("metric") if isinstance(rules, dict) else None

    def log_end(self, step: Json) -> str:
        """Return the last lines of the log of a step."""
        try:
            with self.paths(step).log().open("rb") as file:
                file.seek(0, 2)
                file.seek(max(file.tell() - _LOG_BYTES, 0))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.replace("\r", "\n").splitlines()[-_LOG_LINES:])


def read_run(folder: Path, name: str | None = None) -> RunRecord:
    """Return what a report knows about a run.

    Args:
        folder: The run directory.
        name: In the report; None: the name of the folder.

    Raises:
        Refused: it is no run directory, or nothing of it can be read here.
    """
    paths = RunPaths(folder)
    if not has_plan(folder) and not paths.summary.exists():
        raise Refused(f"{folder} is not the directory of a run: it has no {paths.plan.name}")
    plan, manifest = read_json_object(paths.plan), read_json_object(paths.manifest)
    summary = _summary(folder)
    record = RunRecord(name or folder.resolve().name, folder, summary, manifest, plan)
    add_corrected(summary["comparisons"])
    for step in record.steps:  # of a run whose summary was written by an earlier version
        entry = summary["steps"].get(step["name"])
        if entry is not None and "timing" not in entry:
            entry |= training_facts(record.paths(step), _weights(step))
    return record


def _weights(step: Json) -> dict[str, float]:
    rewards = step.get("config", {}).get("rewards") or {}
    return {name: float(each["weight"]) for name, each in rewards.items() if "weight" in each}


def _summary(folder: Path) -> Json:
    """Return the summary of a run that has ended; of another one, what its steps have written so far."""
    content = read_json_object(RunPaths(folder).summary)
    is_whole = content.keys() >= {"state", "steps", "overrides", "comparisons", "objective"}
    if is_whole and not _has_changed(folder, content):
        return content
    try:
        return summarize(read_plan(folder), folder)
    except R1ExpError as error:
        if is_whole:
            return content
        raise Refused(f"{folder} cannot be reported: {error}") from error


def _has_changed(folder: Path, summary: Json) -> bool:
    """Whether a step has begun or ended since the summary was written."""
    for paths in RunPaths(folder).all_steps():
        status = read_status(paths.folder)
        entry = summary["steps"].get(paths.folder.name.partition("-")[2], {})
        if status is not None and status.state != entry.get("state", status.state):
            return True
    return False


def signature(folders: Iterator[Path] | list[Path]) -> str:
    """Return a text that changes when a file that a report reads changes: names, sizes and times of the files."""
    found = []
    for folder in folders:
        paths = RunPaths(folder)
        files = [paths.plan, paths.summary]
        for step in paths.all_steps():
            files += [step.status, step.metrics, step.health_log, step.completions]
        for file in files:
            try:
                about = file.stat()
            except OSError:
                continue
            found.append([str(file), about.st_size, about.st_mtime_ns])
    return json.dumps(found)
