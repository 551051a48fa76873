"""Gives each epoch whole optimizer steps only, the same ones on any number of processes.

    rows of an epoch = rows - rows mod rows_per_step

transformers 5.17 trains on what is left of an epoch too, in an optimizer step of fewer rows; accelerate 1.15 fills it up
with rows of the epoch's start where the processes could not share it. So the weights depended on the number of processes. Here
the rest is left out, other rows in each epoch, as `plan` says (`r1exp.plan.batch`).
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, RandomSampler, Sampler
from transformers import Trainer

from r1exp.errors import Refused


class FirstRows(Sampler[int]):
    """The first `number` indices of another sampler."""

    def __init__(self, sampler: Any, number: int) -> None:
        self._sampler = sampler
        self._number = number

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self._sampler), self._number)


class WholeSteps(Trainer):
    """Leaves out the rows of an epoch that do not fill an optimizer step. Written against transformers 5.17."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        if sampler is None or isinstance(sampler, BatchSampler):
            return sampler
        shape = (self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps)
        per_step = shape[0] * shape[1] * self.args.world_size
        number = len(sampler) - len(sampler) % per_step
        if number == 0:
            raise Refused(
                f"the trainer has {len(sampler)} rows, fewer than the {per_step} of one optimizer step: it packs rows, or "
                "drops those that are too long; use more rows, or fewer in each step"
            )
        if number == len(sampler):
            return sampler
        if type(sampler) is RandomSampler:  # accelerate gives this class, and no other, a seed for each epoch
            return RandomSampler(sampler.data_source, num_samples=number, generator=sampler.generator)
        return FirstRows(sampler, number)
