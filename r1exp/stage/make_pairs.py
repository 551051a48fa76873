"""Makes preference pairs of the best and the worst answer to each problem, from the answers of stage=sample.

    artifact/data.jsonl  one {"prompt", "chosen", "rejected", "chosen_reward", "rejected_reward"} per line

A problem whose answers all have the same reward gives no pair. Of answers with equal rewards the first one is
used. A blank answer has no token to learn from and is left out. Torch-free.
"""

import json
from pathlib import Path
from typing import Any

from r1exp.dataset.readers import read_json_lines
from r1exp.distributed import is_main_process
from r1exp.errors import Refused, StepFailed
from r1exp.files import whole_folder, write_json, write_text
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.stage.base import resolved_path
from r1exp.stage.preferences import Preferences
from r1exp.stage.sample import question_of
from r1exp.stage.step import Step


def make_pairs(step: Step, folder: Path) -> str | None:
    """Write the artifact, on rank 0."""
    stage = step.config.stage
    assert isinstance(stage, Preferences)
    if not is_main_process():
        return None
    if stage.samples is None:
        raise Refused(
            "stage=preferences compares the answers of stage=sample: give stage.samples=FOLDER, the artifact/ of "
            "such a step, or use pipeline=dpo_from_rewards"
        )
    rows = [row for _, row in read_json_lines(ArtifactPaths(resolved_path(stage.samples)).samples)]
    found = [pair for row in rows if (pair := pair_of(row, stage.min_margin)) is not None]
    pairs = found[: stage.num_pairs]
    if not pairs:
        raise StepFailed(
            f"none of the {len(rows)} problems has two answers whose rewards differ by stage.min_margin={stage.min_margin}; "
            "sample more answers (stage.samples of the step before), or choose rewards that differ"
        )
    with whole_folder(StepPaths(folder).artifact) as unfinished:
        lines = (json.dumps(pair, ensure_ascii=False) for pair in pairs)
        write_text(ArtifactPaths(unfinished).data, "".join(f"{line}\n" for line in lines))
        write_json(ArtifactPaths(unfinished).facts, {"num_problems": len(rows), "num_pairs": len(pairs)})
    return None


def pair_of(row: dict[str, Any], min_margin: float) -> dict[str, Any] | None:
    """Return the best and the worst answer of a problem as a pair, or None if they do not differ enough."""
    scored = [answer for answer in row["answers"] if answer["reward"] is not None and answer["text"].strip()]
    if len(scored) < 2:
        return None
    best = max(scored, key=lambda answer: answer["reward"])
    worst = min(scored, key=lambda answer: answer["reward"])
    margin = best["reward"] - worst["reward"]
    if margin <= 0.0 or margin < min_margin or best["text"] == worst["text"]:
        return None
    return {
        "prompt": question_of(row),
        "chosen": best["text"],
        "rejected": worst["text"],
        "chosen_reward": best["reward"],
        "rejected_reward": worst["reward"],
    }
