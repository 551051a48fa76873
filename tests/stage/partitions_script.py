"""Makes the trainer of a step under a launcher, trains one optimizer step, and writes what this rank held: FOLDER.

FOLDER/rank-N.json: of the policy, the reference and the critic, as they are before the first optimizer step, the share of the
weights whose elements are on other ranks, and their dtypes; the reward model's scores of fixed answers; the logged reward.
"""

import json
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState

from r1exp.model.load import load_tokenizer
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.stage.run_stage import join_ranks, leave_ranks
from r1exp.stage.step import read_step
from r1exp.stage.unused_libraries import leave_out_unused

ANSWERS = ["<answer>7</answer>", "7", "", "<answer>8</answer>" * 30]


def held(model: Any) -> dict[str, Any]:
    """Return the share of partitioned weights and the dtypes of a model."""
    weights = list(model.parameters())
    partitioned = [weight for weight in weights if hasattr(weight, "ds_shape") and weight.numel() == 0]
    return {
        "share": len(partitioned) / len(weights),
        "dtypes": sorted({str(weight.dtype) for weight in weights}),
    }


def main(folder: Path) -> None:
    """Do the work of one rank."""
    step = read_step(folder)
    leave_out_unused(step.config)
    join_ranks(step)
    from r1exp.model.scorer import open_reward_model
    from r1exp.stage.train_rl import trainer_of

    tokenizer = load_tokenizer(step.model_path, step.config.model)
    trainer: Any = trainer_of(step, folder / "checkpoints", tokenizer, [], lambda most: None)
    found: dict[str, Any] = {
        "policy": held(trainer.model),
        "backbone": held(trainer._critic.backbone),
        "reference": held(trainer.ref_model.module),
    }
    trainer.train()
    found["reward"] = trainer.state.log_history[0]["rewards/liked/mean"]
    assert step.config.rewards is not None
    scorer = open_reward_model(step.config.rewards["liked"])  # type: ignore[arg-type]  # a RewardModel
    problems = [Problem("a", "What is 3 + 4?")] * len(ANSWERS)
    found["scores"] = scorer.score(problems, [Completion(text, 3) for text in ANSWERS], Context())
    (folder / f"rank-{PartialState().process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_ranks()
