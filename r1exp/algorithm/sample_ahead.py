"""Trains on completions of older weights, which a helper process sampled meanwhile (`rollout.staleness=k`).

    batch n is sampled with the weights before batch n - k is trained on, and trained on as n-th
    ratio_t = pi(token t) / pi_sampler(token t)

At k=0 sampling and training take turns. At k=1 batch n + 1 is sampled while batch n is trained on. The first k + 1 batches
are sampled with the start weights. The ratio of the clipped loss is taken to the weights that sampled
(`old_per_token_logps`), as PPO does it within a batch (arXiv:1707.06347, eq. 7).

A batch depends on its weights, prompts and seed only, so that every run gives the same result. A checkpoint keeps the batches
that were sampled and not trained on, with which a resumed run goes on.

Written against TRL 1.16. Shapes: B completions of this rank, T tokens of the longest one.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainerCallback

from r1exp.algorithm.critic import without_critic
from r1exp.rollout.ahead import Ahead, Sampled


class SampleAhead(Trainer):
    """GRPO of TRL 1.16 whose completions may come from a helper process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ahead: Ahead | None = None  # None: completions are sampled when they are needed
        self._num_ahead = 0  # generation batches
        self._last_asked = -1  # index of the newest generation batch that was requested
        self._sampled: Sampled | None = None  # the batch that is being scored
        self._order: tuple[int, list[int]] = (-1, [])  # an epoch, and the indices of its rows for all ranks

    def sample_ahead(self, ahead: Ahead, num_batches: int) -> None:
        """Sample each generation batch in the helper, `num_batches` before it is trained on."""
        self._ahead, self._num_ahead = ahead, num_batches
        self.add_callback(_End(ahead))

    @property
    def _every(self) -> int:
        """Batches of the data loader for each generation batch."""
        return int(self.args.steps_per_generation * self.num_iterations)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        if self._ahead is None or not self.model.training:
            return super()._generate_and_score_completions(inputs)
        index = self._step // self._every
        self._ask(index)
        self._sampled = self._ahead.result(index)
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            logps, self._sampled = self._sampled.logps, None
        logps_bt = pad_sequence([torch.tensor(row) for row in logps], batch_first=True)
        width = batch["completion_ids"].size(1)
        logps_bt = torch.nn.functional.pad(logps_bt, (0, width - logps_bt.size(1)))
        batch["old_per_token_logps"] = logps_bt.to(batch["completion_ids"].device)
        return batch

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        if self._sampled is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        assert prompt_ids == self._sampled.prompts, "the data loader gives other prompts than were sampled"
        return self._sampled.completions, None

    def _ask(self, index: int) -> None:
        """Request every batch up to `index` and those ahead of it, with the present weights."""
        assert self._ahead is not None
        num_batches = math.ceil(self.state.max_steps * self.args.gradient_accumulation_steps / self._every)
        last = min(index + self._num_ahead, num_batches - 1)
        wanted = range(max(self._last_asked + 1, index), last + 1)
        if not wanted:
            return
        weights = without_critic(self.accelerator.unwrap_model(self.model).state_dict())
        for number in wanted:
            prompts, *_ = self._tokenize_prompts([row["prompt"] for row in self._rows_of(number)])
            self._ahead.request(number, prompts, self._seed_of(number), weights)
        self._last_asked = last

    def _seed_of(self, index: int) -> int:
        text = f"{self.args.seed} {self.accelerator.process_index} {index}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def _rows_of(self, index: int) -> list[dict[str, Any]]:
        """Return this rank's rows of a generation batch, as the data loader will give them."""
        per_rank = self.args.per_device_train_batch_size * self.args.steps_per_generation
        size = per_rank * self.accelerator.num_processes
        if self._order[0] < 0:
            self._order = (0, self._indices_of(0))
        epoch, place = divmod(index, len(self._order[1]) // (size * self._every))
        if epoch != self._order[0]:
            self._order = (epoch, self._indices_of(epoch))
        start = place * size * self._every + self.accelerator.process_index * per_rank
        return [self.train_dataset[row] for row in self._order[1][start : start + per_rank]]

    def _indices_of(self, epoch: int) -> list[int]:
        sampler = self._get_train_sampler()
        sampler.set_epoch(epoch)
        return list(sampler)

    def _rank_state(self) -> dict[str, Any]:
        kept = [] if self._ahead is None else self._ahead.state()
        return {**super()._rank_state(), "ahead": kept}

    def _load_rank_state(self, checkpoint: Path) -> dict[str, Any]:
        saved: dict[str, Any] = super()._load_rank_state(checkpoint)
        kept = saved.get("ahead", [])
        if self._ahead is not None and kept and self._rank_file(checkpoint).exists():
            self._ahead.restore(kept)
            self._last_asked = max(index for index, *_ in kept)
        return saved

    def policy_pass_is_skipped(self) -> bool:
        """Return whether TRL computes no log-probabilities of a new batch: one optimizer step follows."""
        corrects = self.use_vllm and self.vllm_importance_sampling_correction
        return self.args.gradient_accumulation_steps % self._every == 0 and not corrects


class _End(TrainerCallback):
    """Ends the helper with the training."""

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """End the helper."""
        self._ahead.close()
