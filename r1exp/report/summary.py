"""Writes summary.json and report.md: the results of each step with intervals, and the differences between steps.

`objective` is what a sweeper maximizes; `objective_of` names the accuracy it is, or `objective_missing` says why there
is none (r1exp/report/measurements.py).
"""

import math
from pathlib import Path
from typing import Any

from r1exp.files import read_json, write_json, write_text
from r1exp.paths import RunPaths, StepPaths
from r1exp.plan.batch import RlBatch
from r1exp.plan.run_plan import LEFT_OUT, PlanStep, RunPlan
from r1exp.report.dropped import filter_lines
from r1exp.report.evaluations import as_lines, as_markdown, comparisons_of, evaluations_of, tables
from r1exp.report.facts import training_facts
from r1exp.report.forks import fork_lines
from r1exp.report.measurements import Measurement, measurement_of, objective_of, pairs
from r1exp.statistics.several import holm
from r1exp.step.status import is_changed, read_status
from r1exp.tracking.metrics import MetricsFile

_LUCK = (
    "The intervals of a run hold the luck of problems and of sampling, but not of training: another seed may train another "
    "model. p (Holm) is corrected for the number of comparisons in the table."
)


def summarize(plan: RunPlan, folder: Path, elapsed: float | None = None) -> dict[str, Any]:
    """Collect the results of a run's steps; steps that did not run are `planned`, or `left_out` if they were not to.

    Args:
        plan: Plan of the run.
        folder: The run directory.
        elapsed: Seconds that the command has run; None: the sum of the steps' seconds.
    """
    summary: dict[str, Any] = {
        "run_id": folder.resolve().name,
        "name": plan.name,
        "overrides": list(plan.overrides),
        "state": "done",
        "steps": {},
        "scores": {},  # label of an accuracy: its scores.json, relative to the run directory
        "comparisons": {},
        "objective": None,
    }
    measured: list[Measurement] = []
    for step in plan.steps:
        paths = step.paths(folder)
        status = read_status(paths.folder) if paths.folder.is_dir() else None
        state = ("planned" if step.runs else LEFT_OUT) if status is None else status.state
        edited = state == "done" and paths.results.scores.exists() and is_changed(paths.folder)
        if edited:
            state = "failed"
        entry: dict[str, Any] = {"state": state, "seconds": 0.0 if status is None else status.seconds}
        if status is not None and status.reason is not None:
            entry["reason"] = status.reason
        if edited:
            entry["reason"] = "its scores were changed after it had finished"
        if status is not None and status.reused_from is not None:
            entry["reused_from"] = status.reused_from
            entry["original_seconds"] = status.original_seconds or 0.0
            if status.other_numerics is not None:
                entry["other_numerics"] = status.other_numerics
        if step.fork is not None:
            entry["fork"] = step.fork.model_dump(mode="json", include={"run", "step", "at", "changes"}) | {
                "text": step.fork.text()
            }
        facts = paths.results.facts
        if state == "done" and facts.exists():
            entry["facts"] = read_json(facts)
        if state == "done" and paths.spent.exists():
            entry["spent"] = read_json(paths.spent)
        signal = _signal(step, paths)
        if signal is not None:
            entry["groups"] = signal
        rewards = step.config.rewards or {}
        entry |= training_facts(paths, {name: reward.weight for name, reward in rewards.items()})
        if state == "done" and paths.kept.exists():
            entry["kept"] = read_json(paths.kept)
        summary["steps"][step.name] = entry
        if state not in ("done", LEFT_OUT) and summary["state"] == "done":
            summary["state"] = state
        measurement = measurement_of(step, folder) if state == "done" else None
        if measurement is not None:
            if measurement.summary:
                summary[f"{step.label}_accuracy"] = measurement.summary
            summary["scores"][step.label] = str(paths.results.scores.relative_to(folder))
            measured.append(measurement)
    for before, after in pairs(plan, measured):
        summary["comparisons"] |= comparisons_of(before, after)
    add_corrected(summary["comparisons"])
    summary["evaluations"] = evaluations_of(measured)
    objective = objective_of(plan, summary["state"], measured)
    summary["objective"] = objective.value
    if objective.value is None:
        summary["objective_missing"] = objective.reason
    else:
        summary["objective_of"] = objective.measured
    summary["seconds"] = round(sum(entry["seconds"] for entry in summary["steps"].values()), 3)
    summary["elapsed_seconds"] = summary["seconds"] if elapsed is None else round(elapsed, 3)
    return summary


def _signal(step: PlanStep, paths: StepPaths) -> dict[str, int] | None:
    """Return the number of groups that an RL step sampled, and of those whose rewards were not all equal.

    Groups are counted once for each generation batch, however many optimizer steps reuse it; those that dynamic sampling sampled in
    further rounds are not counted, because they were chosen.
    """
    if not isinstance(step.batch, RlBatch):
        return None
    rows = [row for row in MetricsFile(paths.metrics).rows() if "groups_with_signal" in row or "loss" in row]
    reuse, prompts = step.batch.updates_per_batch, step.batch.prompts_per_generation
    generations, with_signal, before = 0, 0.0, 0  # before: generations until the last row
    for row in rows:
        # A generation batch is sampled before the first of the optimizer steps that reuse it.
        now = math.ceil(int(row["step"]) / reuse)
        if row.get("groups_with_signal") is not None:
            generations += now - before
            with_signal += (now - before) * prompts * float(row["groups_with_signal"])
        before = now
    if not generations:
        return None
    return {"total": generations * prompts, "with_signal": round(with_signal)}


def add_corrected(comparisons: dict[str, Any]) -> None:
    """Add `p_holm`, the p-value corrected for the number of comparisons of the run."""
    tests = [test for modes in comparisons.values() for test in modes.values() if test["p_value"] is not None]
    for test, p_value in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
        test["p_holm"] = p_value


def write_report(summary: dict[str, Any], folder: Path) -> None:
    """Write summary.json and report.md into the run directory."""
    write_json(RunPaths(folder).summary, summary)
    write_text(RunPaths(folder).report, report_text(summary))


def report_text(summary: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"# {summary['name']}", "", f"Run `{summary['run_id']}`: {summary['state']}.", ""]
    if summary["overrides"]:
        lines += ["Overrides: `" + " ".join(summary["overrides"]) + "`", ""]
    lines += ["| step | state | seconds |", "|---|---|---|"]
    for name, entry in summary["steps"].items():
        note = ""
        if "reused_from" in entry:
            note = f" (reused from {entry['reused_from']}, {entry['original_seconds']:.0f} s there)"
        note += f" (other numerics: {entry['other_numerics']})" if "other_numerics" in entry else ""
        note += f": {entry['reason']}" if "reason" in entry else ""
        lines.append(f"| {name} | {entry['state']}{note} | {entry['seconds']:.0f} |")
    for name, entry in summary["steps"].items():
        if "groups" in entry:
            lines += ["", _signal_line(name, entry["groups"])]
        if "kept" in entry:
            lines += ["", _kept_line(name, entry["kept"])]
    for line in fork_lines(summary):
        lines += ["", line]
    lines += ["", *_accuracy_table(summary), "", *_comparison_table(summary)]
    for suite, table in tables(summary):
        lines += ["", f"Suite {suite}:", "", *as_markdown(table)]
    return "\n".join(lines).rstrip() + "\n"


def _signal_line(name: str, groups: dict[str, int]) -> str:
    return (
        f"{name}: {groups['with_signal']} of {groups['total']} groups carried signal (not all rewards equal)"
    )


def _kept_line(name: str, kept: dict[str, Any]) -> str:
    """Return which optimizer step the model is of, and by which rule."""
    value = ""
    if kept["metric"] is not None:
        value = f" ({100 * kept['value']:.1f} % [{100 * kept['low']:.1f}, {100 * kept['high']:.1f}])"
    ended = (
        f"; training ended after {kept['of']} of {kept['planned']}: {kept['ended_by']}"
        if kept["ended_by"]
        else ""
    )
    return f"{name}: the model of optimizer step {kept['optimizer_step']} of {kept['of']} is kept, {kept['rule']}{value}{ended}"


def accuracies(summary: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the accuracies of a summary, in the order in which they were measured."""
    return {key: value for key, value in summary.items() if key.endswith("_accuracy")}


def _accuracy_table(summary: dict[str, Any]) -> list[str]:
    rows = ["| accuracy | decoding | value | 95 % interval | problems |", "|---|---|---|---|---|"]
    for key, value in accuracies(summary).items():
        for mode, score in value.items():
            interval = f"{100 * score['low']:.1f} to {100 * score['high']:.1f}"
            rows.append(f"| {key} | {mode} | {100 * score['value']:.1f} % | {interval} | {score['n']} |")
    return rows if len(rows) > 2 else []


def _comparison_table(summary: dict[str, Any]) -> list[str]:
    rows = [
        "| difference, same problems | decoding | points | 95 % interval | better | worse | p | p (Holm) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, modes in summary["comparisons"].items():
        for mode, test in modes.items():
            rows.append(
                f"| {name} | {mode} | {100 * test['difference']:+.1f} | {100 * test['low']:+.1f} to "
                f"{100 * test['high']:+.1f} | {_count(test['only_after'])} | {_count(test['only_before'])} | "
                f"{_p(test, 'p_value')} | {_p(test, 'p_holm')} |"
            )
    return [*rows, "", _LUCK] if len(rows) > 2 else []


def _p(test: dict[str, Any], name: str) -> str:
    """Return a p-value as text; empty for a run of an earlier version, or where there is none."""
    value = test.get(name)
    return "" if value is None else f"{value:.2g}"


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def headline(summary: dict[str, Any], folder: Path) -> str:
    """Return the last lines that a run prints: its accuracies, the table of each suite, and its directory."""
    lines = []
    for key, value in accuracies(summary).items():
        parts = [
            f"{mode} {100 * score['value']:.1f} % [{100 * score['low']:.1f}, {100 * score['high']:.1f}] n={score['n']}"
            for mode, score in value.items()
        ]
        lines.append(f"{key}: {'; '.join(parts)}")
    for name, modes in summary["comparisons"].items():
        parts = [
            f"{mode} {100 * test['difference']:+.1f} points [{100 * test['low']:+.1f}, {100 * test['high']:+.1f}] "
            f"p={_p(test, 'p_value') or '-'}"
            for mode, test in modes.items()
        ]
        lines.append(f"{name}: {'; '.join(parts)}")
    lines += [
        _signal_line(name, entry["groups"]) for name, entry in summary["steps"].items() if "groups" in entry
    ]
    lines += filter_lines(summary)
    lines += fork_lines(summary)
    lines += [_kept_line(name, entry["kept"]) for name, entry in summary["steps"].items() if "kept" in entry]
    for suite, table in tables(summary):
        lines += [f"suite {suite}:", *(f"  {line}" for line in as_lines(table))]
    if summary["state"] == "done" and summary["objective"] is None and accuracies(summary):
        lines.append(f"no objective: {summary['objective_missing']}")
    return "\n".join([*lines, f"{summary['state']} in {summary['elapsed_seconds']:.0f} s: {folder}"])
