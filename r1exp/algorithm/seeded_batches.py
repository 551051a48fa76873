"""Seeds the random numbers of each generation batch from the seed and the optimizer step alone (`rollout.seed_each_batch`).

    seed of a batch = hash(seed of the run, optimizer steps taken, which batch of that optimizer step)

Two runs that differ in one setting draw the same random numbers for the same row and token of a batch, however many they
drew before: common random numbers, which make the two alike and their difference less noisy. transformers draws the n-th tokens
of all rows of a batch at once, so the numbers are common as long as the batches have the same number of rows. Each rank
draws its own.

Source: common random numbers, Owen, Monte Carlo theory, methods and examples, section 8.6.
"""

from typing import Any

from transformers import Trainer, set_seed

from r1exp.files import hash_of

_LARGEST = 2**31  # of a seed


def seed_of_batch(seed: int, global_step: int, number: int) -> int:
    """Return the seed of a generation batch.

    Args:
        seed: Of the run.
        global_step: Optimizer steps taken.
        number: Which batch of that optimizer step, from 0; further ones are those of resampling.
    """
    return int(hash_of([seed, global_step, number])[:15], 16) % _LARGEST


class SeededBatches(Trainer):
    """A trainer of TRL 1.16 that samples from the policy, with a seed for each generation batch where that is asked for."""

    seeds_each_batch = False
    _last_seeded: tuple[int, int] = (-1, -1)  # optimizer step, number of the batch

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        if self.seeds_each_batch and self.model.training:
            step, number = self.state.global_step, 0
            if self._last_seeded[0] == step:
                number = self._last_seeded[1] + 1
            self._last_seeded = (step, number)
            set_seed(seed_of_batch(self.args.seed, step, number) + self.args.process_index)
        return super()._generate_and_score_completions(inputs)
