"""Compares the results of two executions of one run: bit for bit, else within the interval of the difference.

Only files that every version writes alike are read (status.json, metrics.jsonl, scores.json), so that a run of another version can
be compared. Torch-free.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from r1exp.errors import Refused
from r1exp.evaluation.outcomes import compare
from r1exp.files import read_json_object
from r1exp.paths import RunPaths, StepPaths
from r1exp.terminal import aligned
from r1exp.tracking.metrics import MetricsFile

Verdict = Literal["equal", "within", "different", "unfinished"]
_SENTENCES: dict[Verdict, str] = {
    "equal": "the same result, bit for bit",
    "within": "the same result within the 95 % intervals, and not bit for bit",
    "different": "another result",
    "unfinished": "no result to compare: not every step is done in both runs",
}
# Parts of the names of metrics that are measurements of time or memory, and differ between two executions.
_OF_THE_MACHINE = ("time", "seconds", "second", "memory")


@dataclass(frozen=True)
class ScoreDifference:
    """The difference of an accuracy, here minus there, over the same problems."""

    suite: str
    decoding: str
    there: float
    here: float
    low: float
    high: float


@dataclass(frozen=True)
class StepComparison:
    """The results of one step in two runs."""

    name: str
    verdict: Verdict
    differs_at: int | None  # the first optimizer step whose metrics differ; None: none does
    metric: str | None  # the first metric that differs there
    scores: tuple[ScoreDifference, ...]

    def row(self) -> tuple[str, str, str]:
        """Return name, metrics and artifact as cells of a table."""
        metrics = (
            "-"
            if self.differs_at is None
            else f"differ from optimizer step {self.differs_at} ({self.metric})"
        )
        scores = [
            f"{score.suite} {score.decoding} {100 * score.there:.1f} % there, {100 * score.here:.1f} % here, "
            f"{100 * (score.here - score.there):+.1f} points [{100 * score.low:+.1f}, {100 * score.high:+.1f}]"
            for score in self.scores
        ]
        said = {
            "equal": "equal",
            "within": "differs",
            "different": "differs",
            "unfinished": "not done in both",
        }
        return self.name, metrics, "; ".join([said[self.verdict], *scores])


@dataclass(frozen=True)
class Comparison:
    """The results of two runs."""

    verdict: Verdict
    steps: tuple[StepComparison, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return asdict(self)

    def text(self) -> str:
        """Return a table of the steps, and the verdict in a sentence."""
        rows = [("step", "metrics", "artifact"), *(step.row() for step in self.steps)]
        return "\n".join([*aligned(rows), _SENTENCES[self.verdict]]) + "\n"


def compared(there: Path, here: Path) -> Comparison:
    """Return how the results in two run directories differ.

    A model or a data set is compared by the hash of its files, an evaluation by its outcomes. Where an artifact differs, the
    evaluations decide whether the result is the same within the interval; without any, it is another result.

    Raises:
        Refused: one of them has no steps, or they have other steps.
    """
    theirs, ours = (
        {paths.folder.name: paths for paths in RunPaths(run).all_steps()} for run in (there, here)
    )
    if not theirs or not ours:
        raise Refused(f"{here if theirs else there} has no steps, and so no results to compare")
    common = [name for name in theirs if name in ours]
    if not common:
        raise Refused(
            f"{there} has the steps {', '.join(theirs)} and {here} has {', '.join(ours)}: they are other experiments"
        )
    steps = tuple(_step(name, theirs[name], ours[name]) for name in common)
    return Comparison(_verdict(steps, is_whole=len(common) == len(theirs) == len(ours)), steps)


def _verdict(steps: tuple[StepComparison, ...], *, is_whole: bool) -> Verdict:
    found = {step.verdict for step in steps}
    if "unfinished" in found or not is_whole:
        return "unfinished"
    if found == {"equal"}:
        return "equal"
    scores = [score for step in steps for score in step.scores]
    # A step without scores of its own, such as training, is judged by the evaluations.
    return "within" if scores and all(score.low <= 0.0 <= score.high for score in scores) else "different"


def _step(name: str, there: StepPaths, here: StepPaths) -> StepComparison:
    hashes = [_hash_of_artifact(paths) for paths in (there, here)]
    at, metric = _first_difference(there, here)
    scores = _score_differences(there, here)
    if None in hashes:
        return StepComparison(name, "unfinished", at, metric, ())
    if hashes[0] == hashes[1]:
        return StepComparison(name, "equal", at, metric, ())
    is_within = bool(scores) and all(score.low <= 0.0 <= score.high for score in scores)
    return StepComparison(name, "within" if is_within else "different", at, metric, scores)


def _hash_of_artifact(paths: StepPaths) -> str | None:
    """Return the hash that the step noted when it was done; None if it is not done."""
    status = read_json_object(paths.status)
    artifact = status.get("artifact")
    return str(artifact["hash"]) if status.get("state") == "done" and isinstance(artifact, dict) else None


def _first_difference(there: StepPaths, here: StepPaths) -> tuple[int | None, str | None]:
    """Return the optimizer step and the name of the first metric that differs."""
    rows = zip(MetricsFile(there.metrics).rows(), MetricsFile(here.metrics).rows(), strict=False)
    for theirs, ours in rows:
        for name in {**theirs, **ours}:
            if theirs.get(name) != ours.get(name) and not any(part in name for part in _OF_THE_MACHINE):
                return int(theirs["step"]), name
    return None, None


def _score_differences(first: StepPaths, second: StepPaths) -> tuple[ScoreDifference, ...]:
    """Return the differences of what both steps measured on the same problems."""
    theirs, ours = (_suites(read_json_object(paths.results.scores)) for paths in (first, second))
    found = []
    for suite in theirs:
        if suite not in ours or theirs[suite].get("problem_ids") != ours[suite].get("problem_ids"):
            continue
        for decoding, before in theirs[suite].get("outcomes", {}).items():
            after = ours[suite]["outcomes"].get(decoding)
            if after is not None:
                test = compare(before, after)
                there, here = (sum(map(_mean, side)) / len(side) for side in (before, after))
                found.append(ScoreDifference(suite, decoding, there, here, test["low"], test["high"]))
    return tuple(found)


def _suites(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return suite -> problems and outcomes; of a file without suites, the one that it has."""
    return content.get("suites") or ({"test": content} if "outcomes" in content else {})


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values)
