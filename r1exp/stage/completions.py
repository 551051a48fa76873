"""Collects the completions that a trainer scores, and writes a sample of them with their rewards and advantages.

TRL's `log_completions` is not used: it writes every completion of a generation batch at every logged row, as Parquet,
without the gold answer and without whether a completion is cut, and prints a table to the log. The rows here come from
the committee, which has the completions of all ranks on every rank anyway, so that nothing more is sent between ranks.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.distributed import is_main_process
from r1exp.rewards.base import Abstain, TokenizedCompletion
from r1exp.rewards.ranks import Scored
from r1exp.rewards.total import Column, weighted_totals
from r1exp.tracking.completions import CompletionFiles, flat_row
from r1exp.tracking.trackers import Trackers


@dataclass(frozen=True, slots=True)
class _Batch:
    """A scored batch of all ranks."""

    scored: Scored
    columns: Mapping[str, Column]  # member: its scores as the trainer got them, abstentions imputed
    weights: Mapping[str, float]


class Recorder:
    """Remembers the newest completions that the committee has scored, on rank 0.

    They are those of the last generation batch that is trained on: dynamic sampling scores further batches, of which it takes some
    groups, and says which.
    """

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque(maxlen=1)  # the newest last
        self._trainer: Any = None
        self._advantages: Sequence[float] = ()
        self._ends: frozenset[int] = frozenset()
        self._is_fresh = False

    def add(self, scored: Scored, columns: Mapping[str, Column], weights: Mapping[str, float]) -> None:
        """Remember a batch; called on every rank each time that the committee has scored one."""
        if is_main_process():
            self._batches.append(_Batch(scored, columns, weights))
            self._is_fresh = True

    def follow(self, trainer: Any) -> None:
        """Read advantages from a trainer of TRL 1.16, whose log keeps the rows of a generation batch."""
        self._trainer = trainer
        self._advantages = trainer._logs["advantages"]
        self._batches = deque(self._batches, maxlen=1 + getattr(trainer, "max_rounds", 0))
        self._ends = frozenset([*trainer.eos_token_ids, trainer._tokenizer.pad_token_id])

    def take(self, files: CompletionFiles, step: int) -> list[dict[str, Any]]:
        """Return the sample of the newest completions; none if they have been taken before."""
        if not self._is_fresh:
            return []
        self._is_fresh = False
        rows = self._trained()
        advantages = list(self._advantages) if len(self._advantages) == len(rows) else None
        groups: dict[tuple[int, str], list[tuple[_Batch, int, float | None]]] = {}
        for position, (batch, row) in enumerate(rows):
            advantage = None if advantages is None else advantages[position]
            groups.setdefault((id(batch), batch.scored.batch.problems[row].id), []).append(
                (batch, row, advantage)
            )
        return [self._row(step, *each) for each in files.sample(list(groups.values()))]

    def _trained(self) -> list[tuple[_Batch, int]]:
        """Return the scored batch and the row of each completion of the last generation batch."""
        if not hasattr(self._trainer, "trained_rows"):
            batch = self._batches[-1]
            return [(batch, row) for row in range(len(batch.scored.batch.completions))]
        num_rounds, places = self._trainer.trained_rows()
        batches = list(self._batches)[-1 - num_rounds :]
        return [(batches[number], row) for number, row in places]

    def _row(self, step: int, batch: _Batch, row: int, advantage: float | None) -> dict[str, Any]:
        problem, completion = batch.scored.batch.problems[row], batch.scored.batch.completions[row]
        (total,) = weighted_totals(
            {name: [column[row]] for name, column in batch.columns.items()}, batch.weights
        )
        scores = {name: column[row] for name, column in batch.scored.table.items()}
        ids = completion.token_ids if isinstance(completion, TokenizedCompletion) else ()
        return {
            "step": step,
            "problem": problem.id,
            "prompt": problem.prompt,
            "answer": problem.answer,
            "completion": completion.text,
            "tokens": completion.num_tokens,
            "cut": bool(ids) and ids[-1] not in self._ends,
            "reward": total,
            "advantage": advantage,
            "rewards": {
                name: None if isinstance(score, Abstain) else score for name, score in scores.items()
            },
        }


class KeepCompletions(TrainerCallback):
    """Writes a sample of the newest completions when a row is logged, on rank 0."""

    def __init__(
        self, recorder: Recorder, trainer: Trainer, files: CompletionFiles, trackers: Trackers
    ) -> None:
        recorder.follow(trainer)
        self._recorder, self._files, self._trackers = recorder, files, trackers

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the file of this optimizer step, if it has one."""
        step = state.global_step
        if not state.is_world_process_zero:
            return
        if self._files.is_kept(step, every=max(int(state.logging_steps), 1), last=state.max_steps):
            rows = self._files.write_step(step, self._recorder.take(self._files, step))
            self._trackers.log_completions([flat_row(row) for row in rows], step)
