"""Says of forks in a report what they answer: what a change does from one optimizer step on, given the common past. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

_OTHER_QUESTION = (
    "That is what changing a setting there does, given the common past, and another question than what whole runs with the "
    "setting would reach"
)


def forks_of(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return step -> `run`, `step`, `at`, `text` and `changes` (key -> [value there, value here]) of the forked steps of a run."""
    steps = summary.get("steps", {})
    return {name: entry["fork"] for name, entry in steps.items() if isinstance(entry.get("fork"), dict)}


def fork_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each forked step of a run."""
    return [
        f"{name}: a fork of {fork['run']}@{fork['at']} ({fork['text']}). Until optimizer step {fork['at']} its curves are those "
        f"of that run. {_OTHER_QUESTION}."
        for name, fork in forks_of(summary).items()
    ]


def fork_note(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return what the differences between runs mean where they are forks; empty where none is one."""
    forks = [fork for run in runs for fork in forks_of(run).values()]
    if not forks:
        return ""
    places = list(dict.fromkeys(f"{fork['run']}@{fork['at']}" for fork in forks))
    where = places[0] if len(places) == 1 else f"{len(places)} checkpoints, {places[0]} the first"
    some = (
        ""
        if len(forks) >= len(runs)
        else f"{len(forks)} of the {len(runs)} runs are forks, and a fork compared with a whole run compares two questions. "
    )
    return (
        f"{some}Forks of {where}: a difference between them is paired, with the past, the prompts and the random numbers in common. "
        f"{_OTHER_QUESTION}; over forks of one checkpoint the intervals hold no luck of the past."
    )
