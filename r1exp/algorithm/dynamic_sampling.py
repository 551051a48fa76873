"""Resamples prompts whose completions all received the same reward, as DAPO does.

Such a group is called flat: its advantages are 0. Dynamic sampling replaces flat groups by groups of
further prompts whose rewards differ. Each round samples as many further prompts as there are flat groups
left. Groups that are still flat after the last round stay, with advantage 0. Rewards, lengths and the
other metrics are logged for the first round only, because later rounds are a selection. The completions that are kept
are those of the batch that is trained on.

Source: DAPO, section 3.2, eq. 11 (arXiv:2503.14476).

A group is G adjacent rows of the batch of all ranks, and may span two ranks. All ranks compute the groups
to replace from the gathered rewards, so that they decide alike. Replacement rows are sent between ranks.
"""

from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from r1exp.algorithm.further_prompts import FurtherPrompts
from r1exp.algorithm.trainers import Grpo, Policy

Row = dict[str, Tensor]  # one completion: its row of each tensor of the batch, on the CPU


def flat_groups(scores_n: Tensor, group_size: int) -> list[int]:
    """Return the indices of groups in which all known scores are equal, or fewer than two are known.

    Args:
        scores_n: Total reward of each completion of all ranks; NaN if every reward abstained.
        group_size: Completions per prompt.
    """
    flat = []
    for group, scores in enumerate(scores_n.view(-1, group_size)):
        known = scores[~torch.isnan(scores)]
        if len(known) < 2 or bool(torch.isclose(known.max(), known.min(), rtol=0.0, atol=1e-6)):
            flat.append(group)
    return flat


class DynamicSampling(Grpo):
    """GRPO that replaces flat groups. Overrides one method of TRL 1.16's trainer, and reads the result of another.

    Args:
        max_rounds: Maximum number of rounds in which further prompts are sampled per batch; 0: none.
    """

    def __init__(self, *args: Any, max_rounds: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_rounds = max_rounds
        self._further = FurtherPrompts(self.train_dataset, self.args.seed)
        # Of the last generation batch: place of a group -> round that sampled it (from 1) and its place in that round.
        self._replaced: dict[int, tuple[int, int]] = {}
        self._num_rounds = 0

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
        # Returns TRL's batch, with the rows of flat groups replaced by those of further prompts.
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        flat = flat_groups(self.totals(), self.num_generations)
        self._replaced, self._num_rounds = {}, 0
        if not self.model.training or self.max_rounds == 0:
            return batch
        rows, log = _rows(batch), self._log_of_last(len(self._rewards_nf))
        rounds = num_further = 0
        while flat and rounds < self.max_rounds:
            fresh, taught = self._sample_for(len(flat))
            rounds += 1
            self._exchange(rows, flat[: len(taught)], fresh, taught)
            self._exchange_log(log, flat[: len(taught)], self._log_of_last(len(fresh)), taught)
            self._replaced |= {place: (rounds, source) for place, source in zip(flat, taught, strict=False)}
            flat = flat[len(taught) :]
            num_further += len(fresh)
        self._num_rounds = rounds
        for column, values in log:
            column.extend(values)  # it holds as many rows as a generation batch has
        metrics = self._metrics["train"]
        metrics["dynamic_sampling/rounds"].append(rounds)
        # For each further completion one is discarded: the flat one that it replaces, or itself.
        metrics["dynamic_sampling/discarded_completions"].append(num_further)
        metrics["dynamic_sampling/flat_completions"].append(len(flat) * self.num_generations)
        return self._batch(rows, batch) if rounds else batch

    def _exchange(self, rows: list[Row], places: list[int], fresh: list[Row], sources: list[int]) -> None:
        """Replace the groups at `places` by the groups `sources` of `fresh`, for rows of this rank."""
        start = self.accelerator.process_index * len(rows)  # first row of this rank in the whole batch
        for place, source in zip(places, sources, strict=True):
            for member in range(self.num_generations):
                row = place * self.num_generations + member - start
                if 0 <= row < len(rows):
                    rows[row] = fresh[source * self.num_generations + member]

    def trained_rows(self) -> tuple[int, list[tuple[int, int]]]:
        """Return the number of rounds after the first, and the round and row of each completion that is trained on."""
        size, number = self.num_generations, len(self._logs["advantages"])
        places = [self._replaced.get(group, (0, group)) for group in range(number // size)]
        return self._num_rounds, [
            (number_of_round, group * size + member)
            for number_of_round, group in places
            for member in range(size)
        ]

    def _log_of_last(self, number: int) -> list[tuple[Any, list[Any]]]:
        """Return the columns of TRL's log of completions, each with its last rows; the same on all ranks."""
        log = self._logs
        columns = [log["prompt"], log["completion"], log["advantages"], *log["rewards"].values()]
        return [(column, list(column)[-number:]) for column in columns]

    def _exchange_log(
        self,
        log: list[tuple[Any, list[Any]]],
        places: list[int],
        fresh: list[tuple[Any, list[Any]]],
        sources: list[int],
    ) -> None:
        """Replace rows of the log as `_exchange` replaces those of the batch."""
        size = self.num_generations
        for (_, values), (_, new) in zip(log, fresh, strict=True):
            for place, source in zip(places, sources, strict=True):
                values[place * size : (place + 1) * size] = new[source * size : (source + 1) * size]

    def _sample_for(self, num_places: int) -> tuple[list[Row], list[int]]:
        """Sample at least `num_places` further prompts, with the same number of rows on each rank.

        Returns the rows of all ranks, and the indices of the groups that are not flat.
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
        """Remove the metrics of a further round, except the total number of tokens."""
        metrics = self._metrics["train"]
        for name in [name for name in metrics if name != "num_tokens"]:
            del metrics[name][known.get(name, 0) :]
            if not metrics[name]:
                del metrics[name]

    def _batch(self, rows: list[Row], like: dict[str, Any]) -> dict[str, Any]:
        """Pad rows of different widths to one batch like TRL's: prompts on the left, completions on the right."""
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
