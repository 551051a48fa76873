"""Lets problems rest that are solved always or never: an online pool of problems of the right difficulty.

A group whose completions all got the same score from the reward that judges answers has nothing to compare. Its problem
rests for `rest_steps` optimizer steps; where the data set comes to it meanwhile, another problem that is awake takes its
place, so that a batch keeps its size. What was too easy or too hard is tried again afterwards, because the policy has changed.

All ranks decide alike, from the ids and scores of the batch of all ranks. Who rests, and how far the stream of substitutes
was read, is in every checkpoint.

Source: the offline filter of DAPO, section 3.2 (arXiv:2503.14476), kept up to date while the policy learns.

A group is G adjacent rows of the batch of all ranks, N = P*G, and may span two ranks.
"""

from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import Trainer

from r1exp.algorithm.further_prompts import FurtherPrompts

_OWN_SEEDS = (
    2**32
)  # the stream of substitutes is another one than that of dynamic sampling, which has the run's seed


def groups_of_equal_scores(scores_n: Tensor, group_size: int) -> list[int]:
    """Return the indices of groups in which every completion has the same score; none with a score that is NaN.

    Args:
        scores_n: Score of each completion of all ranks.
        group_size: Completions per prompt.
    """
    scores_pg = scores_n.view(-1, group_size)
    spread_p = scores_pg.max(dim=1).values - scores_pg.min(dim=1).values  # NaN where one of them is
    return torch.nonzero(spread_p.abs() <= 1e-6).flatten().tolist()


class Resting(Trainer):
    """GRPO of TRL 1.16 that replaces prompts of problems that rest. Overrides one method."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._rest_steps = 0  # optimizer steps; 0: no problem rests
        self._judge: int | None = None  # index of the reward that judges answers; None: the total
        self._until: dict[str, int] = {}  # id of a problem -> optimizer step from which it is awake
        super().__init__(*args, **kwargs)

    def let_rest(self, num_steps: int, judge: int | None) -> None:
        """Let problems rest for optimizer steps.

        Args:
            num_steps: Optimizer steps.
            judge: Index of the reward whose scores are compared; None: the weighted total.
        """
        self._rest_steps, self._judge = num_steps, judge
        self._substitutes = FurtherPrompts(self.train_dataset, _OWN_SEEDS + self.args.seed)

    def resume_state(self) -> dict[str, Any]:
        own = (
            {"until": self._until, "num_substitutes": self._substitutes.num_taken}
            if self._rest_steps
            else None
        )
        return {**super().resume_state(), **({} if own is None else {"resting": own})}

    def restore_state(self, state: dict[str, Any]) -> None:
        super().restore_state(state)
        if self._rest_steps:
            self._until = dict(state["resting"]["until"])
            self._substitutes.num_taken = state["resting"]["num_substitutes"]

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        # Returns TRL's batch of the same size, without prompts that rest.
        if not self._rest_steps or not self.model.training:
            return super()._generate_and_score_completions(inputs)
        now, size = self.state.global_step, self.num_generations
        self._until = {name: until for name, until in self._until.items() if until > now}
        names_p = gather_object([row["id"] for row in inputs])[::size]
        replaced = self._replacements(names_p)
        start = self.accelerator.process_index * len(inputs)
        inputs = [replaced.get((start + place) // size, row) for place, row in enumerate(inputs)]
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        scores_n = self.totals() if self._judge is None else self._rewards_nf[:, self._judge]
        for group in groups_of_equal_scores(scores_n, size):
            name = replaced[group]["id"] if group in replaced else names_p[group]
            self._until[name] = now + 1 + self._rest_steps
        metrics = self._metrics["train"]
        metrics["resting/problems"].append(float(len(self._until)))
        metrics["resting/replaced_prompts"].append(float(len(replaced)))
        return batch

    def _replacements(self, names_p: list[str]) -> dict[int, dict[str, Any]]:
        """Return group -> row of a problem that is awake, for each group whose problem rests; where all rest it stays."""
        taken = {name for name in names_p if name not in self._until}
        found: dict[int, dict[str, Any]] = {}
        left = len(self.train_dataset)  # a whole pass over the data at most
        for group, name in enumerate(names_p):
            while name in self._until and group not in found and left > 0:
                (row,) = self._substitutes.take(1)
                left -= 1
                if row["id"] not in self._until and row["id"] not in taken:
                    taken.add(row["id"])
                    found[group] = row
        return found
