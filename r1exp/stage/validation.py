"""Evaluates the model that a step trains, on problems that it does not train on, and keeps the best one.

At optimizer step 0, every N-th and the last, the generator of the step's rollouts answers the validation problems with the
weights of that moment, each rank its share, and the accuracies become a row of metrics.jsonl and of the trackers:

    {"step": 40, "eval/validation/greedy/accuracy": 0.81, "eval/validation/greedy/low": 0.75, "eval/validation/greedy/high": 0.86}

The training itself stays as it is without them, bit for bit: random numbers are drawn from generators of their own.

With `evaluation.keep_best` the model with the highest accuracy is saved in `best/`, and becomes the artifact. A checkpoint has it
too, as hard links, so that a step that is continued anywhere from it keeps the same one.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from r1exp.dataset.validation import validation_problems
from r1exp.distributed import interleave, shard
from r1exp.errors import Refused
from r1exp.evaluation.score import Scores, score, without_unreadable
from r1exp.evaluation.settings import VALIDATION
from r1exp.files import link_tree, write_json
from r1exp.paths import CheckpointPaths, StepPaths
from r1exp.records import Problem
from r1exp.registry import load
from r1exp.rewards.random_state import kept_random_state
from r1exp.rollout.base import Generator, GeneratorInputs, Rollout
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.step import Step


@dataclass(frozen=True)
class Best:
    """The evaluated model with the highest accuracy so far; the earliest of equal ones."""

    global_step: int  # optimizer steps taken
    value: float  # accuracy, with its 95 % interval
    low: float
    high: float


class Validation(TrainerCallback):
    """Evaluates during training.

    Args:
        step: A step with `evaluation.every`.
        folder: Its folder.
        trainer: Its trainer.
        export: Saves the trainer's model in a folder, without changing it. A collective operation.
        is_ending: Whether the step has been requested to end: then a due evaluation is left to the one that continues.
        show: Shows what the step does.
    """

    def __init__(
        self,
        step: Step,
        folder: Path,
        trainer: Trainer,
        export: Callable[[Path], None],
        is_ending: Callable[[], bool],
        show: Callable[[int, str], None],
    ) -> None:
        config = step.config
        assert config.stage is not None
        self._step, self._paths, self._trainer = step, StepPaths(folder), trainer
        self._export, self._is_ending, self._show = export, is_ending, show
        self._suite = config.evaluation.validation(config.dataset, config.prompt)
        self._problems = _problems(step)
        self._last = -1  # optimizer steps at the last evaluation
        self.num_evaluations = 0
        self.best: Best | None = None

    @property
    def metric(self) -> str | None:
        """The metric by which the best model is kept; None: the last model is kept."""
        which = self._step.config.evaluation.keep_best
        return None if which is None else f"eval/{VALIDATION}/{which}/accuracy"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate the start model, or a checkpoint that was saved before it could be evaluated."""
        self._evaluate_if_due(args, state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate after every N-th optimizer step and the last."""
        if not self._is_ending():
            self._evaluate_if_due(args, state, control)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save what was found so far in the checkpoint, and link the best model into it."""
        if not state.is_world_process_zero:
            return
        paths = CheckpointPaths.at(Path(args.output_dir), state.global_step)
        best = None if self.best is None else asdict(self.best)
        saved = {"last": self._last, "num_evaluations": self.num_evaluations, "best": best}
        paths.validation.write_text(json.dumps(saved), encoding="utf-8")
        if self.metric is not None and self._paths.best.exists():
            link_tree(self._paths.best, paths.best)

    def resume(self, checkpoint: Path | None) -> None:
        """Continue from what a checkpoint has, or from nothing; call it on every rank."""
        paths = None if checkpoint is None else CheckpointPaths(checkpoint)
        if paths is not None and paths.validation.exists():
            saved = json.loads(paths.validation.read_text(encoding="utf-8"))
            self._last, self.num_evaluations = saved["last"], saved["num_evaluations"]
            self.best = None if saved["best"] is None else Best(**saved["best"])
        if self._trainer.is_world_process_zero():
            shutil.rmtree(self._paths.best, ignore_errors=True)
            if paths is not None and paths.best.exists():
                link_tree(paths.best, self._paths.best)

    def take_best(self, artifact: Path) -> None:
        """Make the best model the artifact; on rank 0."""
        assert self.best is not None
        link_tree(self._paths.best_model(self.best.global_step), artifact)
        shutil.rmtree(self._paths.best)

    def _evaluate_if_due(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        now = state.global_step
        if now == self._last or now not in self._step.config.evaluation.evaluated_at(state.max_steps):
            return
        self._last = now
        self.num_evaluations += 1
        metrics = self._metrics(now)
        row = {
            f"eval/{VALIDATION}/{decoding}/{name}": each[key]
            for decoding, each in metrics.items()
            for name, key in (("accuracy", "value"), ("low", "low"), ("high", "high"))
        }
        self._keep_if_best(now, metrics)
        # As the trainer's own rows: to metrics.jsonl, the trackers and the health rules. The trainer logs its own afterwards.
        wants_log = control.should_log
        self._trainer.callback_handler.on_log(args, state, control, row)
        control.should_log = wants_log

    def _metrics(self, now: int) -> dict[str, dict[str, float]]:
        """Return the accuracies of the model as it is, by decoding. A collective operation."""
        rank, num_ranks = self._trainer.args.process_index, self._step.world_size
        mine = shard(self._problems, rank, num_ranks)
        done, total = 0.0, len(mine) * self._suite.completions_per_problem

        def advance(amount: float) -> None:
            nonlocal done
            done += amount
            self._show(now, f"evaluating on validation problems, {100 * done / total:.0f} %")

        config = self._step.config
        rollout, path = config.rollout, Rollout.in_training  # a step that samples nothing has no engine
        if config.online is not None:
            path = rollout.in_training
        inputs = GeneratorInputs(
            model_path=self._step.model_path,
            model=config.model,
            device=self._step.device,
            server=self._step.server,
            key=self._step.key,
            folder=self._paths.folder,
            advance=advance,
        )
        with kept_random_state(), load(path)(rollout, inputs, self._trainer) as generator:
            scores = self._scored(generator, mine, config.seed + rank)
        self._show(now, "")
        return _whole(gather_object([scores])).summary()

    def _scored(self, generator: Generator, problems: list[Problem], seed: int) -> Scores:
        return score(generator, problems, self._suite, seed, self._step.config.rewards)

    def _keep_if_best(self, now: int, metrics: dict[str, dict[str, float]]) -> None:
        which = self._step.config.evaluation.keep_best
        if which is None:
            return
        found = metrics[which]
        if self.best is not None and found["value"] <= self.best.value:
            return
        self.best = Best(now, found["value"], found["low"], found["high"])
        model = self._paths.best_model(now)
        if self._trainer.is_world_process_zero():
            shutil.rmtree(model.parent, ignore_errors=True)  # of an execution that was killed
        with (
            kept_random_state()
        ):  # another copy of the base model gets new adapters, before it gets the trained ones
            self._export(model)
        if self._trainer.is_world_process_zero():
            for folder in self._paths.best.iterdir():
                if folder != model.parent:
                    shutil.rmtree(folder)


def write_kept(
    step: Step, folder: Path, now: int, validation: Validation | None, ended_by: str | None
) -> None:
    """Write which optimizer step the artifact is of; for a step that keeps the best model, or whose training ended early.

    Args:
        step: The step.
        folder: Its folder.
        now: Optimizer steps taken.
        validation: Its evaluations during training; None: there were none.
        ended_by: The message of the health rule that ended training; None: it came to its end.
    """
    metric = None if validation is None else validation.metric
    if metric is None and ended_by is None:
        return
    kept: dict[str, Any] = {"optimizer_step": now, "of": now, "planned": step.trainer_args["max_steps"]}
    if validation is not None and validation.best is not None and metric is not None:
        best = asdict(validation.best)
        kept |= {
            "optimizer_step": best.pop("global_step"),
            "metric": metric,
            **best,
            "rule": f"the highest {metric} of {validation.num_evaluations} evaluations, the earliest of equal ones",
        }
    else:
        kept |= {"metric": None, "rule": "the last optimizer step"}
    write_json(StepPaths(folder).kept, kept | {"ended_by": ended_by})


def _problems(step: Step) -> list[Problem]:
    """Return the validation problems whose gold answer can be read.

    Raises:
        Refused: there are fewer than ranks, or a prompt is too long.
    """
    config = step.config
    assert config.stage is not None
    suite = config.evaluation.validation(config.dataset, config.prompt)
    chosen = validation_problems(config.dataset, config.stage.num_validation(config))
    problems, _ = without_unreadable(chosen, suite, config.rewards)
    if len(problems) < step.world_size:
        raise Refused(
            f"{len(problems)} of {len(chosen)} validation problems have a gold answer that can be read, fewer than the "
            f"{step.world_size} processes that share them; raise evaluation.num_validation, or set evaluation.every=null"
        )
    refuse_beyond_context(problems, step, suite.prompt, ("evaluation.max_tokens", suite.max_tokens))
    return problems


def _whole(shards: list[Scores]) -> Scores:
    """Return the answers of all ranks, in the order of the problems."""
    first = shards[0]
    return Scores(
        suite=first.suite,
        problem_ids=tuple(interleave([list(each.problem_ids) for each in shards])),
        judged={mode: interleave([each.judged[mode] for each in shards]) for mode in first.judged},
    )
