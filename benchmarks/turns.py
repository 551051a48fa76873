"""Runs training processes in alternating turns, so that compared measurements are taken under the same load.

A `Runner` is a training in a separate process that waits until it is given a turn of some optimizer steps, and
returns the time they took, with data, sampling, rewards, optimizer steps and logging. Two runners never compute at the
same time. Each has one thread, so that its processor time is the wall time it would take on an idle core; on a machine
with other load the processor time varies less. Without a GPU, processes are forked from one that has loaded the
libraries; CUDA needs new processes.
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
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}  # no network requests
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["torch", "datasets", "peft", "trl.trainer.sft_trainer", "trl.trainer.grpo_trainer"]
)
Work = Callable[..., None]  # builds a trainer and trains; its last argument is a TurnControl


@dataclass(frozen=True)
class Cost:
    """The time that a turn took."""

    wall: float  # seconds
    processor: float  # seconds of all threads of the process
    other: dict[str, Any]  # further figures that the training reports


class TurnControl:
    """Makes every trainer that is built in a child process wait for its turns.

    Args:
        connection: Connection to the parent.
        steps_per_turn: Optimizer steps per turn.
    """

    def __init__(self, connection: Connection, steps_per_turn: int) -> None:
        # Returns further figures of a turn, after waiting for the device.
        self.report: Callable[[], dict[str, Any]] = dict
        self._connection = connection
        self._steps = steps_per_turn
        self._started = (0.0, 0.0)  # wall and processor time

    def register(self) -> None:
        """Add the callback to every trainer that is built after this call."""
        import transformers

        turn_control = self

        class Turns(transformers.TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step % turn_control._steps == 0:
                    turn_control.end_turn()

        transformers.trainer.DEFAULT_CALLBACKS.append(Turns)

    def end_turn(self) -> None:
        """Report what the turn cost, and wait for the next one."""
        other = self.report()
        wall, processor = time.perf_counter() - self._started[0], time.process_time() - self._started[1]
        self._connection.send(Cost(wall, processor, other))
        try:
            self._connection.recv()
        except EOFError:
            os._exit(0)  # the measurement has ended, and there is nothing to save
        self._started = (time.perf_counter(), time.process_time())


class Runner:
    """One training in a child process.

    Args:
        work: Function that the child calls; must be importable from a module.
        arguments: Arguments of `work`, before the TurnControl.
        steps_per_turn: Optimizer steps per turn.
        log: File for the output of the child.
        is_new: Whether the child is a new process, which has loaded nothing: on CUDA, or with another version of a library.
    """

    def __init__(
        self, work: Work, arguments: tuple[Any, ...], steps_per_turn: int, log: Path, is_new: bool = False
    ) -> None:
        self._log = log
        context: Any = multiprocessing.get_context("spawn") if is_new else FORKED
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_child,
            args=(work, arguments, theirs, steps_per_turn, log),
            daemon=True,  # ends with the parent
        )
        self._process.start()
        theirs.close()
        self._next()  # the child has loaded everything and waits

    def turn(self) -> Cost:
        """Run one turn and return its cost."""
        self._connection.send("go")
        return self._next()

    def _next(self) -> Cost:
        try:
            cost: Cost = self._connection.recv()
        except EOFError:
            self._process.join()
            tail = "\n".join(self._log.read_text().splitlines()[-15:])
            raise RuntimeError(f"the training ended before the measurement:\n{tail}") from None
        return cost

    def close(self) -> None:
        """End the child."""
        self._connection.close()
        self._process.join()


def _child(
    work: Work, arguments: tuple[Any, ...], connection: Connection, steps_per_turn: int, log: Path
) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        turn_control = TurnControl(connection, steps_per_turn)
        turn_control.register()
        work(*arguments, turn_control)
        sys.stderr.write("the training ended before the measurement; raise max_steps\n")
    except BaseException:  # written to the log, which the parent reads
        traceback.print_exc()
        raise


def turns(
    runners: dict[str, Runner], number: int, num_warm: int = 2, until: float = math.inf
) -> list[dict[str, Cost]]:
    """Return the cost of each turn; the order of the runners alternates. The first turns are warm-up.

    After the first measured round, no turn starts later than `until` (of time.monotonic).
    """
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
    """Return the median of the ratios of neighboring turns, with its 95 % bootstrap interval.

    The median is robust against single slow turns. The interval is valid for these two processes only; that of
    `over_pairs` is valid for the programs.
    """
    generator = random.Random(0)
    medians = sorted(
        statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(num_resamples)
    )
    low, high = (medians[round(share * (num_resamples - 1))] for share in (0.025, 0.975))
    return statistics.median(ratios), low, high


def pairs(
    starts: dict[str, Callable[[], Runner]], number: int, num_turns: int
) -> list[list[dict[str, Cost]]]:
    """Return the turns of several pairs of new processes.

    Two processes of the same program can differ in speed by up to 20 % for their whole lifetime, so that several pairs
    are needed.
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


def through_r1exp(folder: str, turn_control: TurnControl) -> None:
    """Run a step as its worker does."""
    from r1exp.stage.run_stage import run_stage
    from r1exp.stage.step import read_step

    del turn_control
    run_stage(read_step(Path(folder)), Path(folder))


def start_through_r1exp(step: Any, folder: Path, steps_per_turn: int) -> Runner:
    """Start a step in a new folder below `folder`, so that no process finds the files of another."""
    own = Path(tempfile.mkdtemp(dir=folder))
    step.write(own)
    return Runner(through_r1exp, (str(own),), steps_per_turn, own / "log.txt")


def bare(job: str, turn_control: TurnControl) -> None:
    """Run a job of tests/algorithm/bare_grpo.py."""
    del turn_control
    sys.path.insert(0, str(ROOT / "tests" / "algorithm"))
    import bare_grpo  # type: ignore[import-not-found]  # on the path since the line above

    bare_grpo.main(job)


def freeze(overrides: list[str], folder: Path) -> Any:
    """Compose one step like `r1exp OVERRIDES`, write it into `folder`, and return it."""
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from
    from r1exp.plan.steps import planned_steps
    from r1exp.stage.step import Step

    with session():
        experiment = experiment_from(overrides)
        (planned,) = planned_steps(experiment)
    step = Step(
        name=planned.name, index=1, run_id="benchmark", run_name="benchmark", key=planned.key, data=planned.data, config=planned.config,
        device="cpu", world_size=1, trainer_args=planned.trainer_args, model_path=str(planned.config.model.path),
    )  # fmt: skip
    folder.mkdir(parents=True)
    step.write(folder)
    return step


def bare_job(step: Any, folder: Path, reward: str) -> Path:
    """Write the job of tests/algorithm/bare_grpo.py that equals a GRPO step of r1exp; return its file."""
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
