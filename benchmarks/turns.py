"""Training processes that compute in turns, so that neighboring measurements share the machine's mood.

A `Runner` is a training in a process of its own that stands still until it is given a turn of some
optimizer steps, and says what they took: data, sampling, rewards, updates and logging. Two runners
never compute at once. Each has one thread, so that its processor time is the wall time it would take
on a core of its own; on a machine that others use the first is the steadier. Without a GPU processes
are forked from one that has loaded the libraries; CUDA wants fresh ones.
"""

import json
import math
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}  # nothing here asks the network
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["torch", "datasets", "peft", "trl.trainer.sft_trainer", "trl.trainer.grpo_trainer"]
)
Work = Callable[..., None]  # builds a trainer and trains; its last argument is a Baton


@dataclass(frozen=True)
class Cost:
    """What a turn took."""

    wall: float  # seconds
    processor: float  # seconds of all threads of the process
    other: dict[str, Any]  # what the training reports besides


class Baton:
    """The child's side: every trainer built in this process waits for its turns.

    Args:
        connection: To the parent.
        steps_per_turn: Optimizer steps.
    """

    def __init__(self, connection: Connection, steps_per_turn: int) -> None:
        self.report: Callable[[], dict[str, Any]] = dict  # of a turn, besides its time; waits for the device
        self._connection = connection
        self._steps = steps_per_turn
        self._begun = (0.0, 0.0)

    def listen(self) -> None:
        """Become a callback of every trainer that is built from now on."""
        import transformers

        baton = self

        class Turns(transformers.TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step % baton._steps == 0:
                    baton._hand_over()

        transformers.trainer.DEFAULT_CALLBACKS.append(Turns)

    def _hand_over(self) -> None:
        other = self.report()
        wall, processor = time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]
        self._connection.send(Cost(wall, processor, other))
        try:
            self._connection.recv()
        except EOFError:
            os._exit(0)  # enough was measured; there is nothing to save
        self._begun = (time.perf_counter(), time.process_time())


class Runner:
    """The parent's side of one training.

    Args:
        work: What the child does, a function of a module.
        arguments: What it is given, before the baton.
        steps_per_turn: Optimizer steps.
        log: File for its output.
        on_cuda: Whether it computes on a GPU.
    """

    def __init__(
        self, work: Work, arguments: tuple[Any, ...], steps_per_turn: int, log: Path, on_cuda: bool = False
    ) -> None:
        self._log = log
        context: Any = multiprocessing.get_context("spawn") if on_cuda else FORKED
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_child,
            args=(work, arguments, theirs, steps_per_turn, log),
            daemon=True,  # ends with the parent, whatever ends that
        )
        self._process.start()
        theirs.close()
        self._next()  # it has loaded everything and waits

    def turn(self) -> Cost:
        """Let it make its steps; return what they took."""
        self._connection.send("go")
        return self._next()

    def _next(self) -> Cost:
        try:
            cost: Cost = self._connection.recv()
        except EOFError:
            self._process.join()
            tail = "\n".join(self._log.read_text().splitlines()[-15:])
            raise RuntimeError(f"the training ended by itself:\n{tail}") from None
        return cost

    def close(self) -> None:
        """End it where it stands."""
        self._connection.close()
        self._process.join()


def _child(
    work: Work, arguments: tuple[Any, ...], connection: Connection, steps_per_turn: int, log: Path
) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        baton = Baton(connection, steps_per_turn)
        baton.listen()
        work(*arguments, baton)
        sys.stderr.write("the training came to its end before the measurement did; raise max_steps\n")
    except BaseException:  # written where the parent looks
        traceback.print_exc()
        raise


def turns(
    runners: dict[str, Runner], number: int, num_warm: int = 2, until: float = math.inf
) -> list[dict[str, Cost]]:
    """Return what each turn took; the order changes from round to round. The first turns only warm up.

    No turn begins after `until` (of time.monotonic) once one was measured."""
    rounds: list[dict[str, Cost]] = []
    for index in range(num_warm + number):
        if len(rounds) and time.monotonic() > until:
            break
        order = list(runners) if index % 2 else list(reversed(runners))
        costs = {name: runners[name].turn() for name in order}
        if index >= num_warm:
            rounds.append(costs)
    return rounds


def ratio(ratios: Sequence[float], num_resamples: int = 10_000) -> tuple[float, float, float]:
    """Return the median of ratios of neighbors with its 95 % bootstrap interval; an odd turn moves neither far.

    It speaks of these two processes only; `over_pairs` speaks of the programs.
    """
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(num_resamples))
    low, high = (medians[round(share * (num_resamples - 1))] for share in (0.025, 0.975))
    return statistics.median(ratios), low, high


def pairs(
    starts: dict[str, Callable[[], Runner]], number: int, num_turns: int
) -> list[list[dict[str, Cost]]]:
    """Return the turns of several pairs of fresh processes.

    Two processes of the same program differ by up to a fifth for as long as they live, so that turns of
    one pair say nothing about the next.
    """
    found = []
    for index in range(number):
        order = list(starts) if index % 2 else list(reversed(starts))
        runners = {name: starts[name]() for name in order}
        found.append(turns(runners, num_turns))
        for runner in runners.values():
            runner.close()
    return found


def over_pairs(ratios: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Return the geometric mean over pairs of processes of the median over turns, with Student's 95 % interval."""
    from r1exp.statistics.intervals import mean_interval

    interval = mean_interval([[math.log(statistics.median(turns))] for turns in ratios])
    return math.exp(interval.value), math.exp(interval.low), math.exp(interval.high)


def build_tiny_policy(folder: Path) -> None:
    """Save conf/model/tiny.yaml's model with random weights."""
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from
    from r1exp.model.tiny import build_tiny

    with session():
        build_tiny(experiment_from(["stage=sft"]).steps[0].config.model, folder)


def through_r1exp(folder: str, baton: Baton) -> None:
    """Carry out a frozen step as its worker would."""
    from r1exp.stage.run_stage import run_stage
    from r1exp.stage.step import read_step

    del baton
    run_stage(read_step(Path(folder)), Path(folder))


def start_through_r1exp(step: Any, folder: Path, steps_per_turn: int) -> Runner:
    """Start a frozen step in a fresh folder within `folder`, so that no process finds another one's files."""
    place = Path(tempfile.mkdtemp(dir=folder))
    step.write(place)
    return Runner(through_r1exp, (str(place),), steps_per_turn, place / "log.txt")


def bare(job: str, baton: Baton) -> None:
    """Do the job of tests/algorithm/bare_grpo.py."""
    del baton
    sys.path.insert(0, str(ROOT / "tests" / "algorithm"))
    import bare_grpo  # type: ignore[import-not-found]  # found just now

    bare_grpo.main(job)


def freeze(words: list[str], folder: Path) -> Any:
    """Compose one step as `r1exp WORDS` would, write it into `folder`, and return it."""
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from
    from r1exp.plan.steps import planned_steps
    from r1exp.stage.step import Step

    with session():
        experiment = experiment_from(words)
        (planned,) = planned_steps(experiment)
    step = Step(
        name=planned.name, index=1, run_id="benchmark", run_name="benchmark", key=planned.key, data=planned.data, config=planned.config,
        device="cpu", world_size=1, trainer_args=planned.trainer_args, model_path=str(planned.config.model.path),
    )  # fmt: skip
    folder.mkdir(parents=True)
    step.write(folder)
    return step


def bare_job(step: Any, folder: Path, reward: str) -> Path:
    """Write the job of tests/algorithm/bare_grpo.py that does what a GRPO step of r1exp does; return its file."""
    system = {"role": "system", "content": step.config.prompt.system}
    rows = [
        {"prompt": [system, {"role": "user", "content": problem.prompt}], "answer": problem.answer}
        for problem in step.config.dataset.load("train")
    ]
    job = {
        "reward": reward, "model": step.model_path, "arguments": step.trainer_args, "rows": rows, "output": "bare",
    }  # fmt: skip
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    return file
