"""Trains a reward model on preference pairs; it returns one number for each answer, larger for a better one.

    L = -log sigmoid(r(chosen) - r(rejected))

Source: InstructGPT, eq. 1 (arXiv:2203.02155); TRL 1.16 RewardTrainer.

It is trained on the question without system text, in the form in which `r1exp.model.scorer` gives it the policy's
answers. artifact/facts.json states the share of held-out pairs that it ranks correctly.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl import RewardConfig

from r1exp.algorithm.trainers import RewardModelling
from r1exp.distributed import is_main_process
from r1exp.errors import Refused
from r1exp.files import write_json
from r1exp.model.load import load_tokenizer
from r1exp.model.scorer import LearnedScorer
from r1exp.paths import ArtifactPaths, StepPaths
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.reward_model import RewardModel
from r1exp.stage.config import StepConfig
from r1exp.stage.pair_rows import pair_row
from r1exp.stage.step import Step
from r1exp.stage.training import train
from r1exp.stage.training_rows import dataset_of
from r1exp.statistics.intervals import proportion
from r1exp.step.checkpoints import good_checkpoint


def train_reward_model(step: Step, folder: Path) -> str | None:
    """Train, save the model in `artifact/`, and return the identity of the step in trackers."""
    config = step.config
    if config.model.lora.r:
        raise Refused(
            f"stage=reward_model trains all weights, and model.lora.r={config.model.lora.r} would train adapters; "
            "type model.lora.r=0 for this step"
        )
    tokenizer = load_tokenizer(step.model_path, config.model)

    def make_trainer(output: Path, callbacks: list[TrainerCallback]) -> RewardModelling:
        args = RewardConfig(**step.trainer_args, output_dir=str(output))  # before the model, see train_rl
        return RewardModelling(
            model=_classifier(step.model_path, config, tokenizer),
            args=args,
            train_dataset=dataset_of(
                (pair_row(pair, None) for pair in config.dataset.stream("train")), folder
            ),
            processing_class=tokenizer,
            callbacks=callbacks,
            good_checkpoint=lambda most: good_checkpoint(folder, most),
        )

    tracking_id = train(step, folder, tokenizer, make_trainer)
    held_out = config.dataset.load("test")
    if is_main_process() and held_out:
        artifact = StepPaths(folder).artifact
        write_json(
            ArtifactPaths(artifact).facts,
            {"ranked_right": ranking(artifact, held_out, config.model.trust_remote_code)},
        )
    return tracking_id


def ranking(artifact: Path, pairs: Sequence[Problem], trusts_code: bool = False) -> dict[str, Any]:
    """Return how often the model at `artifact` scores the chosen answer above the rejected one."""
    scorer = LearnedScorer(RewardModel(model=str(artifact), normalization="none"), trusts_code=trusts_code)
    chosen, rejected = (
        scorer.score(pairs, [Completion(str(pair.columns[side]), 0) for pair in pairs], Context())
        for side in ("chosen", "rejected")
    )
    right = sum(
        isinstance(better, float) and isinstance(worse, float) and better > worse
        for better, worse in zip(chosen, rejected, strict=True)
    )
    return asdict(proportion(right, len(pairs)))


def _classifier(path: str, config: StepConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    settings = config.model
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            path,
            num_labels=1,
            revision=settings.revision,
            dtype=getattr(torch, settings.dtype),
            trust_remote_code=settings.trust_remote_code,
        )
    except ValueError as error:  # transformers has no such class for the model, nor has its own code
        raise Refused(
            f"model.path={path}: stage=reward_model needs a class for sequence classification, and there is none for this "
            f"model ({str(error).strip().splitlines()[0]}); choose another model, or add one to its auto_map"
        ) from error
    model.config.pad_token_id = tokenizer.pad_token_id
    return model
