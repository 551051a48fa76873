"""What if every completion of a prompt earns the same? Its group teaches nothing and gives way to another prompt's.

Dynamic sampling fills the batch with groups whose rewards differ: in each round as many further prompts
are sampled as there are places left, up to a number of rounds. What is still flat then stays, with
advantage 0. Rewards, lengths and the rest are logged of the first round alone, which no selection has
touched.

Source: DAPO, section 3.2, eq. 11 (arXiv:2503.14476).

A group is G neighboring rows of the batch of all ranks; it may lie across two of them. Places and
sources are worked out from the gathered rewards, so that every rank decides alike, and rows travel
between ranks where a place and its replacement lie apart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from r1exp.algorithm.trainers import Grpo, Policy

Row = dict[str, Tensor]  # one completion: a row of each tensor of the batch, on the CPU


def flat_groups(scores_n: Tensor, group_size: int) -> list[int]:
    """Return the groups whose known scores are all equal, or fewer than two.

    Args:
        scores_n: What each completion of all ranks is paid; NaN where nobody could score.
        group_size: Completions per prompt.
    """
    flat = []
    for group, scores in enumerate(scores_n.view(-1, group_size)):
        known = scores[~torch.isnan(scores)]
        if len(known) < 2 or bool(torch.isclose(known.max(), known.min(), rtol=0.0, atol=1e-6)):
            flat.append(group)
    return flat


class FurtherPrompts:
    """Rows of a data set beyond those of the sampler, in an order that a seed and a count decide."""

    def __init__(self, dataset: Sequence[dict[str, Any]], seed: int) -> None:
        self._dataset = dataset
        self._seed = seed
        self.num_taken = 0

    def take(self, number: int) -> list[dict[str, Any]]:
        """Return the next rows; each pass over the data set has an order of its own."""
        rows = []
        for position in range(self.num_taken, self.num_taken + number):
            number_of_pass, place = divmod(position, len(self._dataset))
            order = np.random.default_rng([self._seed, number_of_pass]).permutation(len(self._dataset))
            rows.append(self._dataset[int(order[place])])
        self.num_taken += number
        return rows


class DynamicSampling(Grpo):
    """GRPO that replaces flat groups. Overrides one method of TRL 1.16's trainer, and listens to another.

    Args:
        max_rounds: How often further prompts are sampled for one batch; 0: never.
    """

    def __init__(self, *args: Any, max_rounds: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_rounds = max_rounds
        self._further = FurtherPrompts(self.train_dataset, self.args.seed)

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return the number of rounds, and GRPO's options."""
        return {**super().own_arguments(algorithm, policy), "max_rounds": algorithm.resampling_rounds}

    def resume_state(self) -> dict[str, Any]:
        return {**super().resume_state(), "num_further_prompts": self._further.num_taken}

    def restore_state(self, state: dict[str, Any]) -> None:
        super().restore_state(state)
        self._further.num_taken = state["num_further_prompts"]

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        # TRL's batch, with the rows of flat groups exchanged for those of further prompts.
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        flat = flat_groups(self.totals(), self.num_generations)
        if not self.model.training or self.max_rounds == 0:
            return batch
        rows = _rows(batch)
        rounds = num_further = 0
        while flat and rounds < self.max_rounds:
            fresh, taught = self._sample_for(len(flat))
            self._exchange(rows, flat[: len(taught)], fresh, taught)
            flat = flat[len(taught) :]
            rounds += 1
            num_further += len(fresh)
        metrics = self._metrics["train"]
        metrics["dynamic_sampling/rounds"].append(rounds)
        # For each further completion one is thrown away: the flat one that it replaces, or else itself.
        metrics["dynamic_sampling/discarded_completions"].append(num_further)
        metrics["dynamic_sampling/flat_completions"].append(len(flat) * self.num_generations)
        return self._batch(rows, batch) if rounds else batch

    def _exchange(self, rows: list[Row], places: list[int], fresh: list[Row], sources: list[int]) -> None:
        """Put the fresh group of each source in its place, where the place is among this rank's `rows`."""
        start = self.accelerator.process_index * len(rows)  # of this rank's rows in the batch of all
        for place, source in zip(places, sources, strict=True):
            for member in range(self.num_generations):
                row = place * self.num_generations + member - start
                if 0 <= row < len(rows):
                    rows[row] = fresh[source * self.num_generations + member]

    def _sample_for(self, num_places: int) -> tuple[list[Row], list[int]]:
        """Sample at least `num_places` further prompts, as many rows on each rank.

        Returns every rank's rows, and which of the groups teach something.
        """
        ranks, size = self.accelerator.num_processes, self.num_generations
        num_prompts = next(n for n in range(num_places, num_places + ranks) if n * size % ranks == 0)
        repeated = [row for row in self._further.take(num_prompts) for _ in range(size)]
        share = len(repeated) // ranks
        first = self.accelerator.process_index * share
        known = {name: len(values) for name, values in self._metrics["train"].items()}
        batch = super()._generate_and_score_completions(repeated[first : first + share])
        self._forget_metrics(known)
        flat = set(flat_groups(self.totals(), size))
        taught = [group for group in range(num_prompts) if group not in flat]
        return gather_object(_rows(batch)), taught[:num_places]

    def _forget_metrics(self, known: dict[str, int]) -> None:
        """Drop what a further round logged; only the count of tokens goes on."""
        metrics = self._metrics["train"]
        for name in [name for name in metrics if name != "num_tokens"]:
            del metrics[name][known.get(name, 0) :]
            if not metrics[name]:
                del metrics[name]

    def _batch(self, rows: list[Row], like: dict[str, Any]) -> dict[str, Any]:
        """Put rows of different widths into one batch like TRL's: prompts to the right, completions to the left."""
        batch = dict(like)
        for name in rows[0]:
            columns = [row[name] for row in rows]
            if columns[0].ndim and not self._is_one_per_sequence(name):
                columns = _padded(columns, self._tokenizer.pad_token_id if name.endswith("_ids") else 0, name)
            batch[name] = torch.stack(columns).to(self.accelerator.device)
        mask_bt = batch["completion_mask"] * batch.get("tool_mask", 1)
        batch["num_items_in_batch"] = self.accelerator.gather(mask_bt.sum()).sum()
        return batch

    def _is_one_per_sequence(self, name: str) -> bool:
        return name == "importance_sampling_ratio" and self.vllm_importance_sampling_mode.startswith(
            "sequence"
        )


def _rows(batch: dict[str, Any]) -> list[Row]:
    tensors = {name: value.cpu() for name, value in batch.items() if isinstance(value, Tensor) and value.ndim}
    return [
        {name: value[row].clone() for name, value in tensors.items()}
        for row in range(len(batch["prompt_ids"]))
    ]


def _padded(columns: list[Tensor], value: int, name: str) -> list[Tensor]:
    width = max(len(column) for column in columns)
    sides = [
        (width - len(column), 0) if name.startswith("prompt_") else (0, width - len(column))
        for column in columns
    ]
    return [
        torch.nn.functional.pad(column, side, value=value)
        for column, side in zip(columns, sides, strict=True)
    ]
