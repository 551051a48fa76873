"""Generates with the model that a trainer trains, for evaluations during training: with transformers, in this process.

The weights are those of the trainer, gathered where the ranks hold partitions of them (ZeRO-3). Nothing of the training changes:
the model is back in its mode afterwards, and random numbers are drawn from generators of their own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from trl.models.utils import unwrap_model_for_generation

from r1exp.rollout.base import GeneratorInputs, Rollout
from r1exp.rollout.hf import HfGenerator
from r1exp.rollout.settings import HfRollout

_BATCH_SIZE = 64  # completions generated at once; a constant, because it decides which numbers a completion is drawn with


@contextmanager
def hf_generator(settings: Rollout, inputs: GeneratorInputs, trainer: Any) -> Iterator[HfGenerator]:
    """Return a context with a generator of the trainer's model. A collective operation: every rank must enter it.

    Args:
        settings: The rollout of the step.
        inputs: What a generator needs from the step.
        trainer: A trainer of transformers or TRL 1.16.
    """
    del settings
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
        own = HfRollout(kind="hf", batch_size=_BATCH_SIZE)
        generator = HfGenerator(model, trainer.processing_class, own, inputs.advance)
        # A tensor made in inference mode, such as a cache of a rotary embedding, could not be used by the next loss.
        generator.without_gradients = torch.no_grad
        yield generator
