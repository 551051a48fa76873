"""Which of a problem's answers is better? Pairs of the best and the worst, from the answers of stage=sample.

    artifact/data.jsonl  {"prompt", "chosen", "rejected", "chosen_reward", "rejected_reward"} a line

A problem whose answers earn the same teaches nothing and makes no pair. Of answers that earn the same
the first one is taken; a blank answer, which has no token to learn from, is none. Torch-free.
"""

import json
import os
from pathlib import Path
from typing import Any

from r1exp.dataset.rows import read_json_lines
from r1exp.errors import Refused, StepFailed
from r1exp.files import whole_folder, write_json, write_text
from r1exp.stage.kinds import SAMPLES, Preferences
from r1exp.stage.step import Step


def preferences(step: Step, folder: Path) -> str | None:
    """Write the artifact; rank 0 alone has work here."""
    stage = step.config.stage
    assert isinstance(stage, Preferences)
    if os.environ.get("RANK", "0") != "0":
        return None
    if stage.samples is None:
        raise Refused(
            "stage=preferences compares the answers of stage=sample: give stage.samples=FOLDER, the artifact/ that "
            "such a step left, or use pipeline=dpo_from_rewards"
        )
    rows = [row for _, row in read_json_lines(Path(stage.samples).expanduser() / SAMPLES)]
    found = [pair for row in rows if (pair := pair_of(row, stage.min_margin)) is not None]
    pairs = found[: stage.num_pairs]
    if not pairs:
        raise StepFailed(
            f"none of the {len(rows)} problems has an answer that leads another by stage.min_margin={stage.min_margin}; "
            "sample more answers (stage.samples of the step before), or choose rewards that differ"
        )
    with whole_folder(folder / "artifact") as unfinished:
        lines = (json.dumps(pair, ensure_ascii=False) for pair in pairs)
        write_text(unfinished / "data.jsonl", "".join(f"{line}\n" for line in lines))
        write_json(unfinished / "facts.json", {"num_problems": len(rows), "num_pairs": len(pairs)})
    return None


def pair_of(row: dict[str, Any], min_margin: float) -> dict[str, Any] | None:
    """Return the best against the worst answer of a problem, or None where they do not differ enough."""
    known = [answer for answer in row["answers"] if answer["reward"] is not None and answer["text"].strip()]
    if len(known) < 2:
        return None
    best = max(known, key=lambda answer: answer["reward"])
    worst = min(known, key=lambda answer: answer["reward"])
    margin = best["reward"] - worst["reward"]
    if margin <= 0.0 or margin < min_margin or best["text"] == worst["text"]:
        return None
    return {
        "prompt": row["prompt"],
        "chosen": best["text"],
        "rejected": worst["text"],
        "chosen_reward": best["reward"],
        "rejected_reward": worst["reward"],
    }
