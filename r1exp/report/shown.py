"""Names the metrics that a report draws and cuts into segments, with their titles and units. Torch-free."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shown:
    """A metric of metrics.jsonl as a reader sees it."""

    metric: str
    title: str
    unit: str = ""  # empty: a number without a unit
    has_segments: bool = True  # also in the table of segments


_KNOWN = (
    Shown("reward", "Reward"),
    Shown("kl", "KL to the reference", "nats per token"),
    Shown("entropy", "Entropy", "nats per token"),
    Shown("completions/mean_length", "Completion length", "tokens"),
    Shown("completions/clipped_ratio", "Share cut off"),
    Shown("groups_with_signal", "Share of groups with signal"),
    Shown("grad_norm", "Gradient norm"),
    Shown("beta", "beta, the weight of the KL penalty", has_segments=False),
    Shown("loss", "Loss"),
    Shown("mean_token_accuracy", "Accuracy of the next token"),
    Shown("rewards/accuracies", "Pairs ordered as preferred"),
    Shown("rewards/margins", "Margin between chosen and rejected"),
    Shown("accuracy", "Pairs ordered as preferred"),
    Shown("margin", "Margin between chosen and rejected"),
    Shown("learning_rate", "Learning rate", has_segments=False),
    Shown("step_time", "Time of an optimizer step", "seconds", has_segments=False),
)
_BY_METRIC = {shown.metric: shown for shown in _KNOWN}
_MEMBER = re.compile(r"rewards/(.+)/mean")
_EVALUATION = re.compile(r"eval/(.+)/([^/]+)/accuracy")


def member_of(metric: str) -> str | None:
    """Return the member of the committee whose mean score a metric is, or None."""
    found = _MEMBER.fullmatch(metric)
    return found[1] if found else None


def shown(metric: str) -> Shown | None:
    """Return how a metric is shown; None for one that is not."""
    if metric in _BY_METRIC:
        return _BY_METRIC[metric]
    member = member_of(metric)
    if member is not None:
        return Shown(metric, f"Reward {member}")
    evaluated = _EVALUATION.fullmatch(metric)
    if evaluated:
        return Shown(metric, f"Accuracy on {evaluated[1]} during training, {evaluated[2]}")
    return None


def in_order(metrics: set[str]) -> list[Shown]:
    """Return the metrics that are shown: evaluations first, then the reward with its members, then the others."""
    known = [each for metric in metrics if (each := shown(metric)) is not None]
    return sorted(known, key=lambda each: (_rank(each.metric), each.metric))


def _rank(metric: str) -> float:
    if _EVALUATION.fullmatch(metric):
        return -1
    if member_of(metric) is not None:
        return 0.5
    return list(_BY_METRIC).index(metric)
