"""What runs during a soak: command lines of r1exp that take half a minute each, with tiny models and short checkpoint intervals.

A command is typed again until it ends with exit code 0. The commands of one scenario run at the same time and share a
step store. The settings never change, so that the artifacts are those of the undisturbed run, hash for hash.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_COMMON = (
    "launcher.threads_per_process=1",
    "dataset.num_train=200",
    "dataset.num_test=20",
    "evaluation.samples=1",
)
_QUIET = ("evaluation.before=false", "evaluation.after=false")
_SAVED = ("trainer.save_strategy=steps", "trainer.save_steps=2", "trainer.logging_steps=1")
_SFT = ("stage=sft", "stage.rows_per_step=8", "max_steps=120", *_SAVED, *_COMMON)
_RL = (
    "algorithm.prompts_per_step=2",
    "num_generations=4",
    "max_completion_length=16",
    *_SAVED,
    *_COMMON,
)
PORT_OF_ENDPOINT = "PORT_OF_ENDPOINT"  # stands for the port of the lane's endpoint


@dataclass(frozen=True)
class Scenario:
    """Commands that run at the same time in one folder."""

    name: str
    commands: tuple[tuple[str, ...], ...]  # the arguments of r1exp
    patience: float = 21.0  # seconds between two disturbances, on average; longer than its start takes
    missing: Callable[[], str] = lambda: ""  # what it needs and is not installed here
    is_job: bool = False  # whether its processes belong to SLURM, and outlive the command
    has_endpoint: bool = False  # whether it needs the lane's endpoint


def _without_vllm() -> str:
    return "" if find_spec("vllm") else "vLLM (make vllm)"


def _without_slurm() -> str:
    found = shutil.which("slurmctld") and shutil.which("munged")
    return "" if found else "SLURM (apt-get install slurm-wlm munge)"


_PIPELINE = (
    "pipeline.steps.sft.set.max_steps=40",
    "pipeline.steps.sft.set.stage.rows_per_step=8",
    "max_steps=20",
)
_ENDPOINT = (
    "rollout=endpoint",
    "rollout.model=soak",
    "rollout.concurrency=2",
    f"rollout.url=http://127.0.0.1:{PORT_OF_ENDPOINT}/v1",
    "stage.samples=4",
    "stage.num_problems=100",
)
_SERVER = ("rollout=vllm_server", "stage.samples=2", "stage.num_problems=50", "max_completion_length=16")
_JOB = ("launcher=slurm", "launcher.nodes=2", "launcher.time=0:50:00", "launcher.wait=true")

SCENARIOS = (
    Scenario(
        "single",
        (
            (
                "stage=rl",
                "rewards=r1_zero",
                "max_steps=50",
                "tracking.mode=offline",
                *_RL,
                *_QUIET,
                "paths.run=run",
            ),
        ),
    ),
    Scenario(
        "ddp",
        (("stage=rl", "launcher=ddp", "max_steps=30", "tracking=none", *_RL, *_QUIET, "paths.run=run"),),
    ),
    Scenario("pipeline", ((*_PIPELINE, "tracking=none", *_RL, "paths.run=run"),)),
    Scenario(
        "sweep",
        (("-m", "seed=1,2", "sweep.parallel=2", "tracking=none", *_SFT, *_QUIET, "hydra.sweep.dir=sweep"),),
    ),
    Scenario(
        "twins",  # two runs of one step in one store: one waits for the other, or continues its checkpoints
        tuple(
            (*_SFT, *_QUIET, "tracking=none", f"paths.run=run-{name}", "paths.store=store") for name in "ab"
        ),
    ),
    Scenario(
        "endpoint",
        (("stage=sample", *_ENDPOINT, "tracking=none", *_COMMON, *_QUIET, "paths.run=run"),),
        has_endpoint=True,
    ),
    Scenario(
        "server",
        (("stage=sample", *_SERVER, "tracking=none", *_COMMON, *_QUIET, "paths.run=run"),),
        patience=75.0,
        missing=_without_vllm,
    ),
    Scenario(
        "job",
        ((*_JOB, *_SFT, *_QUIET, "tracking=none", "paths.run=run"),),
        patience=40.0,
        missing=_without_slurm,
        is_job=True,
    ),
)
