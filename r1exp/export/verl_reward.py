"""Scores completions for verl with the committee of a run: verl's custom reward function.

It is called in verl's own processes, one completion at a time. There r1exp is installed without its training libraries
(`pip install --no-deps r1exp`), and nothing here imports them.
"""

import json
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context
from r1exp.rewards.committee import Committee
from r1exp.rewards.menu import RewardSettings

_lock = threading.Lock()  # verl calls from several threads; a committee has one pool of workers


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any], committee: str
) -> dict[str, float]:
    """Return the weighted total of the members' scores as `score`, and each of them.

    Args:
        data_source: Name of the data set; not read.
        solution_str: The completion, without special tokens.
        ground_truth: The gold answer; that of the problem is read.
        extra_info: With `problem`, the problem as JSON.
        committee: File with the rewards.

    Returns:
        `score`; for each member `<name>` and `<name>/abstained` (1: it could not score this completion, and counts 0).
    """
    content = json.loads(extra_info["problem"])
    problem = Problem(
        content["id"],
        content["prompt"],
        content["answer"],
        content["columns"],
        tuple(content.get("earlier", ())),
    )
    members = _committee(committee)
    with _lock:
        scores = members.score([problem], [Completion(text=solution_str, num_tokens=0)], Context())
    found: dict[str, float] = {}
    total = 0.0
    for name, weight in zip(members.names, members.weights, strict=True):
        (score,) = scores[name]
        abstained = isinstance(score, Abstain)
        found[name] = 0.0 if isinstance(score, Abstain) else score
        found[f"{name}/abstained"] = float(abstained)
        total += weight * found[name]
    return {"score": total, **found}


@lru_cache(maxsize=4)
def _committee(path: str) -> Committee:
    return Committee(TypeAdapter(dict[str, RewardSettings]).validate_json(Path(path).read_bytes()))
