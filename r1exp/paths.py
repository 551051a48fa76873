"""Names every file of a run directory, a sweep, a step and the step store.

<run>/manifest.json, plan.json, summary.json, report.html, report.md, tables/, figures/, reproduction.json, job.sbatch, job.json, slurm.log
<run>/fork/forked-plan.json, metrics.jsonl, completions/, checkpoints/  (of a fork: what it began with)
<run>/steps/<nn>-<name>/step.json, status.json, stop.json, progress.json, log.txt, log-rank-<n>.txt, metrics.jsonl, health.jsonl, kept.json, spent.json,
    failed-rank-<n>.json, ranks.lock, reserve.bin, check.txt, memory.json, server.json, server.log, accelerate.yaml, deepspeed.json, checkpoints/, best/, completions/, artifact/
<checkpoint>/complete.json, health.json, validation.json, best/, critic.safetensors, memory-<rank>-of-<n>.pt, and what transformers writes
<step>/checkpoints/rows/rank-<n>-of-<m>.jsonl
<completions>/step-<n>.jsonl, evaluation.jsonl, samples.jsonl, answers.jsonl
<artifact>/scores.json, answers.jsonl, facts.json, samples.jsonl, dropped.jsonl, data.jsonl, or a model
<sweep>/sweep.json, sweep-rows.jsonl, sweep-summary.json, array-<n>.sbatch, array.log, report.html, report.md, tables/, figures/, <n>/ (the run of member n)
<store>/steps/<key>/, leases/, models/
<user's cache>/folder-hashes/
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ARTIFACT = "artifact:"  # prefix of a setting that names the artifact of an earlier step
_CHECKPOINT = "checkpoint-"  # the prefix that transformers uses
_DAMAGED = "damaged-"
_COMPLETIONS = "step-"


@dataclass(frozen=True)
class CheckpointPaths:
    """The files that r1exp adds to a checkpoint of transformers."""

    folder: Path

    @classmethod
    def at(cls, checkpoints: Path, global_step: int) -> Self:
        """Return the checkpoint after `global_step` optimizer steps, in the folder of all checkpoints."""
        return cls(checkpoints / f"{_CHECKPOINT}{global_step}")

    @property
    def global_step(self) -> int:
        """The number of optimizer steps, read from the name of the folder."""
        return int(self.folder.name.removeprefix(_CHECKPOINT))

    @property
    def mark(self) -> Path:
        """The mark of a complete checkpoint."""
        return self.folder / "complete.json"

    @property
    def health(self) -> Path:
        """State of the health monitor."""
        return self.folder / "health.json"

    @property
    def validation(self) -> Path:
        """What evaluations during training have found so far."""
        return self.folder / "validation.json"

    @property
    def best(self) -> Path:
        """Folder of the best model so far, with hard links to that of the step."""
        return self.folder / "best"

    @property
    def critic(self) -> Path:
        """Weights of PPO's critic."""
        return self.folder / "critic.safetensors"

    @property
    def critic_shards(self) -> Path:
        """Trained weights of PPO's critic beside adapters, a file for each rank, where FSDP2 holds them."""
        return self.folder / "critic_shards"

    @property
    def damaged(self) -> Path:
        """The folder that the checkpoint is renamed to when it is damaged."""
        return self.folder.with_name(_DAMAGED + self.folder.name)

    def rank_state(self, rank: int, world_size: int) -> Path:
        """Return the file with the state of a rank; a different number of ranks cannot use it."""
        return self.folder / f"memory-{rank}-of-{world_size}.pt"

    def rank_0_states(self) -> list[Path]:
        """Return the files with the state of rank 0, for any number of ranks."""
        return sorted(self.folder.glob("memory-0-of-*.pt"))


@dataclass(frozen=True)
class ArtifactPaths:
    """The files of an artifact in addition to those of a model."""

    folder: Path

    @classmethod
    def of_step(cls, name: str) -> Self:
        """Return the artifact of an earlier step of the pipeline, as settings name it until that step has run."""
        return cls(Path(f"{ARTIFACT}{name}"))

    @property
    def critic(self) -> Path:
        """PPO's critic: a trunk that AutoModel loads (none of a shared one), its config and value_head.safetensors."""
        return self.folder / "critic"

    @property
    def scores(self) -> Path:
        """Accuracies and outcomes of an evaluation."""
        return self.folder / "scores.json"

    @property
    def answers(self) -> Path:
        """Every answer of an evaluation, one JSON object per line."""
        return self.folder / "answers.jsonl"

    @property
    def facts(self) -> Path:
        """Counts and measurements that are copied into the summary."""
        return self.folder / "facts.json"

    @property
    def samples(self) -> Path:
        """One problem per line with its scored answers, written by stage=sample."""
        return self.folder / "samples.jsonl"

    @property
    def dropped(self) -> Path:
        """One line for each row that stage=filter left out, with the reason."""
        return self.folder / "dropped.jsonl"

    @property
    def data(self) -> Path:
        """A data set that a later step reads."""
        return self.folder / "data.jsonl"


@dataclass(frozen=True)
class StepPaths:
    """The files of one step."""

    folder: Path

    @property
    def step(self) -> Path:
        """The settings that the ranks read."""
        return self.folder / "step.json"

    @property
    def status(self) -> Path:
        """How the step ended."""
        return self.folder / "status.json"

    @property
    def stop_request(self) -> Path:
        """The request to save a checkpoint and end the step."""
        return self.folder / "stop.json"

    @property
    def progress(self) -> Path:
        """How far the step is, while it runs."""
        return self.folder / "progress.json"

    @property
    def ranks_lock(self) -> Path:
        """The file that the ranks lock while they live."""
        return self.folder / "ranks.lock"

    @property
    def reserve(self) -> Path:
        """Space for the status of a step whose disk becomes full."""
        return self.folder / "reserve.bin"

    @property
    def metrics(self) -> Path:
        """The logged metrics, one JSON object per line."""
        return self.folder / "metrics.jsonl"

    @property
    def reward_check(self) -> Path:
        """The table of the reward check before an RL step."""
        return self.folder / "check.txt"

    @property
    def memory(self) -> Path:
        """The most memory that rank 0 had at once."""
        return self.folder / "memory.json"

    @property
    def spent(self) -> Path:
        """Tokens and cost of the answers of stage=generate."""
        return self.folder / "spent.json"

    @property
    def server_state(self) -> Path:
        """State of the step's vLLM server."""
        return self.folder / "server.json"

    @property
    def server_log(self) -> Path:
        """Output of the step's vLLM server."""
        return self.folder / "server.log"

    @property
    def health_log(self) -> Path:
        """The health rules that were broken, one JSON object per line."""
        return self.folder / "health.jsonl"

    @property
    def kept(self) -> Path:
        """Which optimizer step the model in the artifact is of, and by which rule."""
        return self.folder / "kept.json"

    @property
    def best(self) -> Path:
        """Folder of the best model so far, while the step trains."""
        return self.folder / "best"

    def best_model(self, global_step: int) -> Path:
        """Return the folder of the model after an optimizer step that is the best so far."""
        return self.best / f"{_COMPLETIONS}{global_step:06d}" / "model"

    @property
    def accelerate_config(self) -> Path:
        """Configuration of accelerate's launcher."""
        return self.folder / "accelerate.yaml"

    @property
    def deepspeed_config(self) -> Path:
        """Configuration of DeepSpeed."""
        return self.folder / "deepspeed.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    def kept_rows(self, rank: int, world_size: int) -> Path:
        """Return the file in which a rank keeps what it has generated until the step is done.

        It is in the folder of the checkpoints, because it is one: another run of the step continues from it too.
        """
        return self.checkpoints / "rows" / f"rank-{rank}-of-{world_size}.jsonl"

    def all_kept_rows(self) -> list[Path]:
        """Return the files in which ranks have kept what they generated."""
        return sorted(self.checkpoints.glob("rows/*.jsonl"))

    @property
    def completions(self) -> Path:
        """Folder of the sampled completions."""
        return self.folder / "completions"

    def completions_at(self, global_step: int) -> Path:
        """Return the file with completions that were sampled for an optimizer step."""
        return self.completions / f"{_COMPLETIONS}{global_step:06d}.jsonl"

    def all_completions(self) -> dict[int, Path]:
        """Return optimizer step -> file of completions, in the order of the steps."""
        found = self.completions.glob(f"{_COMPLETIONS}*.jsonl")
        return dict(sorted((int(path.stem.removeprefix(_COMPLETIONS)), path) for path in found))

    @property
    def artifact(self) -> Path:
        """Folder of the artifact."""
        return self.folder / "artifact"

    def unfinished(self) -> list[Path]:
        """Return what a step that is not done must not keep: its artifact, and files and folders with temporary names."""
        artifact = [self.artifact] if self.artifact.exists() else []
        return [*artifact, *(path for path in self.folder.glob(".*") if path.name not in (".", ".."))]

    @property
    def results(self) -> ArtifactPaths:
        """The files of the artifact."""
        return ArtifactPaths(self.artifact)

    def continued_files(self) -> list[Path]:
        """Return the files that a continued step adds to, as far as they exist."""
        logs = (self.metrics, self.health_log)
        return [*(path for path in logs if path.is_file()), *sorted(self.completions.glob("*.jsonl"))]

    def temporary_rows(self) -> list[Path]:
        """Return the folders with rows of a data set that killed ranks left."""
        return sorted(self.folder.glob(".rows-*"))

    @property
    def not_shared(self) -> tuple[str, ...]:
        """Names of what another run that reuses the step does not need."""
        return (self.checkpoints.name, self.best.name, self.ranks_lock.name, self.reserve.name)

    def log(self, rank: int = 0) -> Path:
        """Return the file with the output of a rank; the launcher writes to that of rank 0."""
        return self.folder / ("log.txt" if rank == 0 else f"log-rank-{rank}.txt")

    def log_of_node(self, index: int) -> Path:
        """Return the file with the output of the launcher on another node than the first."""
        return self.folder / f"log-node-{index}.txt"

    def failure(self, rank: int) -> Path:
        """Return the file in which a rank writes how it failed."""
        return self.folder / f"failed-rank-{rank}.json"

    def failures(self) -> list[Path]:
        """Return the failure files of all ranks that wrote one."""
        return sorted(self.folder.glob("failed-rank-*.json"))

    def all_checkpoints(self) -> list[CheckpointPaths]:
        """Return the checkpoints there are, oldest first, complete or not."""
        found = [CheckpointPaths(folder) for folder in self.checkpoints.glob(f"{_CHECKPOINT}*")]
        return sorted(found, key=lambda paths: paths.global_step)

    def damaged_checkpoints(self) -> list[Path]:
        """Return the checkpoints that were passed over because they are damaged."""
        return sorted(self.checkpoints.glob(f"{_DAMAGED}{_CHECKPOINT}*"))


@dataclass(frozen=True)
class RunPaths:
    """The files of one run."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """Overrides, configuration, versions, hardware, fingerprints."""
        return self.folder / "manifest.json"

    @property
    def plan(self) -> Path:
        """The composed plan, which a run is started or continued from."""
        return self.folder / "plan.json"

    @property
    def summary(self) -> Path:
        """Results for programs."""
        return self.folder / "summary.json"

    @property
    def report(self) -> Path:
        """Results for readers."""
        return self.folder / "report.md"

    @property
    def fork(self) -> StepPaths:
        """Of a fork: what the forked step began with, as far as the folder of a step has it."""
        return StepPaths(self.folder / "fork")

    @property
    def fork_plan(self) -> Path:
        """Of a fork: the plan of the run that the checkpoint is of."""
        return self.fork.folder / "forked-plan.json"

    @property
    def reproduction(self) -> Path:
        """Of a run that was started again from a manifest: whether its result is the same."""
        return self.folder / "reproduction.json"

    @property
    def log(self) -> Path:
        """Output of a member of a sweep that runs beside others."""
        return self.folder / "run.log"

    @property
    def nodes(self) -> Path:
        """The files through which the nodes of launcher=torchrun agree."""
        return self.folder / "nodes"

    @property
    def job_script(self) -> Path:
        """The script that sbatch reads."""
        return self.folder / "job.sbatch"

    @property
    def job_log(self) -> Path:
        """Output of the run's SLURM job."""
        return self.folder / "slurm.log"

    @property
    def job_ids(self) -> Path:
        """The ids of the run's SLURM jobs."""
        return self.folder / "job.json"

    @property
    def sweep(self) -> "SweepPaths | None":
        """The sweep that this run is a member of, or None."""
        folder = self.folder.resolve()
        return SweepPaths(folder.parent) if folder.name.isdigit() else None

    def step(self, index: int, name: str) -> StepPaths:
        """Return the paths of a step.

        Args:
            index: Position of the step in the run, from 1.
            name: Name of the step.
        """
        return StepPaths(self.steps / f"{index:02d}-{name}")

    @property
    def steps(self) -> Path:
        """Folder of the steps."""
        return self.folder / "steps"

    def all_steps(self) -> list[StepPaths]:
        """Return the steps there are, in the order of the run."""
        return [StepPaths(folder) for folder in sorted(self.steps.glob("[!.]*"))]


@dataclass(frozen=True)
class SweepPaths:
    """The files of a multirun."""

    folder: Path

    @property
    def table(self) -> Path:
        """One row for each member that ended or was submitted."""
        return self.folder / "sweep.json"

    @property
    def added_rows(self) -> Path:
        """Rows that are not in the table yet, one JSON object per line."""
        return self.folder / "sweep-rows.jsonl"

    @property
    def report(self) -> Path:
        """The ranked table."""
        return self.folder / "report.md"

    def array_script(self, number: int) -> Path:
        """Return the script of an array of SLURM jobs that members were submitted as."""
        return self.folder / f"array-{number}.sbatch"

    @property
    def array_log(self) -> Path:
        """Output of the elements of an array before they write to the log of their run."""
        return self.folder / "array.log"

    @property
    def design(self) -> Path:
        """Which combinations of the listed values run, and which effects they cannot tell apart."""
        return self.folder / "design.json"

    @property
    def power(self) -> Path:
        """Which differences the sweep was expected to see, computed before it started."""
        return self.folder / "power.json"

    @property
    def results(self) -> Path:
        """The best values that a sweeper plug-in found; written by the plug-in."""
        return self.folder / "optimization_results.yaml"

    @property
    def race(self) -> Path:
        """The log of a race: seeds, bounds, and when a setting was dropped."""
        return self.folder / "race.json"

    @property
    def objectives(self) -> Path:
        """The names of the objectives, where there are others than the accuracy alone."""
        return self.folder / "objectives.json"

    def member(self, number: int) -> Path:
        """Return the run directory of a member."""
        return self.folder / str(number)


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report, in a run directory, a sweep or a folder of its own."""

    folder: Path

    @property
    def page(self) -> Path:
        """The page, which needs no other file."""
        return self.folder / "report.html"

    @property
    def text(self) -> Path:
        """The same facts as Markdown."""
        return self.folder / "report.md"

    @property
    def numbers(self) -> Path:
        """The numbers of the page of several runs."""
        return self.folder / "sweep-summary.json"

    @property
    def figures(self) -> Path:
        """Folder of the drawn curves."""
        return self.folder / "figures"

    def table(self, name: str, kind: str) -> Path:
        """Return the file of a table; `kind` is `csv` or `tex`."""
        return self.folder / "tables" / f"{name}.{kind}"


@dataclass(frozen=True)
class StorePaths:
    """The folders of a step store."""

    folder: Path

    @property
    def steps(self) -> Path:
        """Finished steps by key."""
        return self.folder / "steps"

    @property
    def leases(self) -> Path:
        """Lock files of the steps that are running."""
        return self.folder / "leases"

    def lock(self, key: str) -> Path:
        """Return the lock file of a step."""
        return self.leases / f"{key}.lock"

    def working_directory(self, key: str) -> Path:
        """Return the file that names the folders in which a step was executed."""
        return self.leases / f"{key}.where"

    def tiny_model(self, identity: str) -> Path:
        """Return the folder of a model that r1exp builds."""
        return self.folder / "models" / f"tiny-{identity}"

    def merged_model(self, identity: str) -> Path:
        """Return the folder of a base model with adapters added to its weights."""
        return self.folder / "models" / f"merged-{identity}"


def user_cache() -> Path | None:
    """Return r1exp's folder in the user's cache, which may not exist; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "r1exp"
    except RuntimeError:  # no HOME, and the user is not in the password database
        return None
