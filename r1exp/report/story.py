"""Writes the sentences of a report: what was asked, what came out and how sure that is, and what went wrong. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

from r1exp.plan.run_plan import LEFT_OUT
from r1exp.report.dropped import filters_of, verdict_of_filters
from r1exp.report.forks import fork_lines, fork_note
from r1exp.report.numbers import Cell, Code, Sentence, interval_at, number_at
from r1exp.report.records import RunRecord
from r1exp.report.several import code_of, label_of

Json = dict[str, Any]
_NO_OUTCOME = "No accuracy was measured."


def question_of_run(record: RunRecord) -> Sentence:
    """Return what a run asked: which steps it trained on what, and what differs from the defaults."""
    parts: list[Cell] = []
    for step in record.steps:
        config = step.get("config", {})
        if step.get("batch") is None:
            continue
        algorithm = (config.get("algorithm") or {}).get("kind")
        kind = algorithm or (config.get("stage") or {}).get("kind", "")
        parts += [
            ", then " if parts else "What does training with ",
            Code(str(kind)),
            " on ",
            Code(_data(config)),
        ]
    focus = record.manifest.get("config", {})
    model = (focus.get("model") or {}) if isinstance(focus, Mapping) else {}
    name = str(model.get("path") or model.get("kind") or "the model")
    if not parts and len(record.steps) == len(list(filters_of(record.summary))):
        parts = ["Which rows of ", Code(_data(record.steps[0].get("config", {}))), " should be learned from?"]
    elif parts:
        parts += [" do to the held-out answers of ", Code(name), "?"]
    else:
        parts = ["How well does ", Code(name), " answer held-out problems?"]
    parts += [part for line in fork_lines(record.summary) for part in (" ", line)]
    if record.summary["overrides"]:
        return [*parts, " What differs from the defaults: ", Code(" ".join(record.summary["overrides"])), "."]
    return [*parts, " Nothing differs from the defaults."]


def _data(config: Json) -> str:
    dataset = config.get("dataset") or {}
    return str(dataset.get("path") or dataset.get("name") or dataset.get("kind") or "its data")


def verdict_of_run(summary: Json) -> Sentence:
    """Return the outcome of a run in a sentence or two."""
    start: list[Cell] = []
    if summary["state"] != "done":
        start = [*_why_not_done(summary), " "]
    measured = str(summary.get("objective_of") or _last_measured(summary))
    label, _, mode = measured.partition(" ")
    accuracy = interval_at(summary, (f"{label}_accuracy", mode), "percent")
    if accuracy == "":
        return [*start, *(verdict_of_filters(summary) or [_NO_OUTCOME])]
    sentence: list[Cell] = [*start, "The ", mode, " accuracy of ", Code(label), " is ", accuracy, " %"]
    name = next((name for name in summary["comparisons"] if name.startswith(f"{label} - ")), None)
    test = summary["comparisons"].get(name, {}).get(mode) if name else None
    if name is None or test is None:
        return [*sentence, "; there is no earlier measurement to compare it with."]
    path = ("comparisons", name, mode)
    before = name.partition(" - ")[2]
    p_value = number_at(summary, (*path, "p_value"), "p") or ""
    return [
        *sentence, ": ", interval_at(summary, path, "points", "difference", (-1.0, 1.0)), " points against ",
        Code(before), " (p = ", p_value, "), ", _judged(test["low"], test["high"]), ".",
    ]  # fmt: skip


def _last_measured(summary: Json) -> str:
    found = [
        (key.removesuffix("_accuracy"), modes) for key, modes in summary.items() if key.endswith("_accuracy")
    ]
    if not found:
        return ""
    label, modes = found[-1]
    return f"{label} {next((mode for mode in ('sampled', 'greedy') if mode in modes), '')}"


def _judged(low: float, high: float) -> str:
    if low > 0:
        return "an improvement"
    if high < 0:
        return "a loss"
    return "a difference that the interval does not tell from none"


def _why_not_done(summary: Json) -> list[Cell]:
    for name, entry in summary["steps"].items():
        if entry["state"] not in ("done", "planned", LEFT_OUT):
            words = {"running": "is running", "stopped": "was stopped by a health rule"}
            state = words.get(entry["state"], f"is {entry['state']}")
            reason: list[Cell] = [": ", Code(str(entry["reason"]))] if entry.get("reason") else []
            return ["Not finished: step ", Code(name), f" {state}", *reason, "."]
    reason = [": ", Code(str(summary["reason"]))] if summary.get("reason") else []
    state = "has not begun" if summary["state"] == "planned" else f"is {summary['state']}"
    return [f"The run {state}", *reason, "."]


def question_of_several(numbers: Json) -> Sentence:
    """Return what several runs asked: which settings were compared, and what they share."""
    keys = list(dict.fromkeys(
        text.lstrip("+").partition("=")[0] for setting in numbers["settings"] for text in setting["overrides"]
    ))  # fmt: skip
    settings = len(numbers["settings"])
    forks = fork_note(list(numbers["runs"].values()))
    common: list[Cell] = [" ", forks] if forks else []
    common += [" All runs share ", Code(" ".join(numbers["common"])), "."] if numbers["common"] else []
    if not keys:
        return ["How much do runs of the same settings differ?", *common]
    differing: list[Cell] = []
    for key in keys:
        differing += [", " if differing else "", Code(key)]
    return [f"Which of {settings} settings of ", *differing, " is best?", *common]


def verdict_of_several(numbers: Json) -> Sentence:
    """Return the best setting, and how sure it is that it is better than the next one."""
    ranked = [(index, each) for index, each in enumerate(numbers["settings"]) if "objective" in each]
    missing = sum(count for state, count in numbers["states"].items() if state != "done")
    rest: list[Cell] = [f" {missing} of {len(numbers['runs'])} runs are not finished."] if missing else []
    if not ranked:
        return [_NO_OUTCOME, *rest]
    index, best = ranked[0]
    mode = next(iter(best["accuracy"]), None)
    sentence: list[Cell] = ["Best is ", Code(code_of(index)), ", ", Code(label_of(best))]
    if mode is not None:
        accuracy = interval_at(numbers, ("settings", str(index), "accuracy", mode), "percent")
        sentence += [", with ", accuracy, f" % {mode}"]
    if len(ranked) > 1 and "against_best" in ranked[1][1]:
        second, other = ranked[1]
        difference = interval_at(
            numbers, ("settings", str(second), "against_best"), "points", scale=(-1.0, 1.0)
        )
        bounds = other["against_best"]
        sentence += [
            "; next is ", Code(code_of(second)), ", ", Code(label_of(other)), ", ", difference, " points against it, ",
            _told_apart(bounds["low"], bounds["high"]),
        ]  # fmt: skip
    return [*sentence, ".", *rest]


def _told_apart(low: float, high: float) -> str:
    if low == high:
        return "of one seed, which has no interval"
    return "which the interval tells from none" if high < 0 else "which the interval does not tell from none"


def problems_of(records: Sequence[RunRecord]) -> list[dict[str, str]]:
    """Return what went wrong: for each step that failed or was stopped `run`, `step`, `reason`, and the end of its log."""
    found = []
    for record in records:
        for step in record.steps:
            entry = record.summary["steps"].get(step["name"], {})
            if entry.get("state") in ("failed", "stopped", "damaged", "interrupted", "preempted"):
                found.append({
                    "run": record.name, "step": step["name"], "state": entry["state"],
                    "reason": str(entry.get("reason", "")), "log": record.log_end(step),
                })  # fmt: skip
    return found
