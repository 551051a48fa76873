"""Marks checkpoints as complete, finds the newest whole one, and refuses those of another experiment.

A complete checkpoint has a mark, which is written last:

    <step>/checkpoints/checkpoint-50/complete.json
    {"version": ..., "key": ..., "global_step": 50, "data": ..., "tracking_id": ..., "settings": {...},
     "files": {"optimizer.pt": {"size": 4242, "hash": ...}, ...}}

`key` is the hash of what decides the step's result, `data` the fingerprint of its data, `tracking_id` the
identity in trackers that is continued, `settings` the settings in the key, so that a refusal can name what differs, and
`files` every file of the checkpoint, those of all ranks included.

The order of the writes survives a power cut: the files and their folders are on the disk before the mark, the mark before an
older checkpoint is deleted. So a step that has had a checkpoint always has one. A checkpoint whose files are not those of its
mark is passed over: it is renamed to `damaged-checkpoint-50`, and the one before is taken.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from r1exp import __version__
from r1exp.errors import Refused
from r1exp.files import hash_of, hash_of_file, sync_file, sync_folders, write_text
from r1exp.paths import CheckpointPaths, StepPaths
from r1exp.settings import Name, Settings
from r1exp.step.fork import ForkOrigin

_NUM_LISTED = 3  # differing settings that a refusal lists
_NUM_THREADS = 4  # that hash the files of a rank; a hash takes 0.8 s a GiB and thread
# Files that one rank each writes: of transformers, r1exp, DeepSpeed and FSDP. Rank 0 writes all others.
_OF_A_RANK = re.compile(r"(?:^rng_state_|^memory-|zero_pp_rank_|^__)(\d+)")


Format = Literal["plain", "deepspeed", "fsdp2"]
_FORMATS: dict[Format, str] = {
    "plain": "launcher=local or launcher=ddp",
    "deepspeed": "launcher=zero1, zero2 or zero3",
    "fsdp2": "launcher=fsdp2",
}


class Owner(Protocol):
    """What a checkpoint needs to know about its step."""

    @property
    def key(self) -> str: ...
    @property
    def data(self) -> str: ...
    def deciding_settings(self) -> dict[str, Any]: ...


class FileRecord(Settings):
    """What a file of a checkpoint contained when the checkpoint was complete."""

    size: NonNegativeInt  # bytes
    hash: Name  # 16 hex digits of SHA-256


class Mark(Settings):
    """The experiment that a checkpoint belongs to, and its files."""

    version: Name  # of r1exp that wrote it
    key: Name  # hash of what decides the step's result
    global_step: PositiveInt  # optimizer steps taken
    data: Name  # fingerprint of the data
    tracking_id: Name | None  # identity of the step in trackers; None: no tracker
    settings: dict[str, Any]  # the step's settings that decide its result
    sound: (
        bool  # whether the weights are finite and have about the size that they had at the start of the step
    )
    files: dict[str, FileRecord]  # path in the checkpoint -> content; without the mark itself
    seconds: NonNegativeFloat | None = (
        None  # that the ranks took to write the files and flush them; None: not measured
    )


def recorded(checkpoint: Path, rank: int, world_size: int) -> dict[str, FileRecord]:
    """Return what the files of `checkpoint` contain that `rank` has written, after flushing them to the disk.

    On several machines each has its own files in memory, so that nothing is read over the network. Call it when every rank
    has written its files.
    """
    own = [path for path in _files_of(checkpoint) if _writer_of(path, world_size) == rank]
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        records = pool.map(_flushed, own)
        return {str(path.relative_to(checkpoint)): record for path, record in zip(own, records, strict=True)}


def mark_complete(
    checkpoint: Path,
    step: Owner,
    num_steps: int,
    tracking_id: str | None,
    files: Mapping[str, FileRecord] | None = None,
    *,
    sound: bool = True,
    seconds: float | None = None,
) -> None:
    """Mark `checkpoint` as complete, after everything in it is on the disk.

    Args:
        checkpoint: Its folder.
        step: The step that it belongs to.
        num_steps: Optimizer steps taken.
        tracking_id: Identity of the step in trackers, or None.
        files: What `recorded` returned on every rank; None: this process is the only one.
        sound: Whether the weights are finite and not far larger than at the start of the step.
        seconds: That the ranks took to write the files; None: not measured.
    """
    found = recorded(checkpoint, 0, 1) if files is None else dict(files)
    mark = Mark(
        version=__version__, key=step.key, global_step=num_steps, data=step.data, tracking_id=tracking_id,
        settings=step.deciding_settings(), sound=sound, files=found, seconds=seconds,
    )  # fmt: skip
    sync_folders(
        checkpoint, up=7
    )  # with checkpoints/, the step, steps/, and the run in folders that it made: runs/DATE/
    write_text(CheckpointPaths(checkpoint).mark, mark.model_dump_json(indent=2) + "\n")
    sync_folders(checkpoint)


def checkpoints(step_folder: Path) -> list[Path]:
    """Return the complete checkpoints of a step, oldest first."""
    return [paths.folder for paths in StepPaths(step_folder).all_checkpoints() if paths.mark.exists()]


def last_checkpoint(step_folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    found = checkpoints(step_folder)
    return found[-1] if found else None


def refuse_other_format(checkpoint: Path, launcher: str, ours: Format) -> None:
    """Check that a checkpoint has the files that the launcher of a step reads.

    Args:
        checkpoint: Its folder.
        launcher: The launcher, for the message.
        ours: The format that it reads.

    Raises:
        Refused: it has those of another: transformers would go on without the optimizer's states, or end in a traceback.
    """
    theirs = _format_of(checkpoint)
    if theirs != ours:
        raise Refused(
            f"{checkpoint.name} was written under {_FORMATS[theirs]}, in files that launcher={launcher} does not read; type "
            f"the launcher that wrote it to continue from it, or start the step again: rm -r '{checkpoint.parent}'"
        )


def _format_of(checkpoint: Path) -> Format:
    if (checkpoint / "pytorch_model_fsdp_0").is_dir():
        return "fsdp2"
    return "deepspeed" if any(checkpoint.glob("global_step*")) else "plain"


def seconds_of_checkpoint(step_folder: Path) -> float | None:
    """Return how long the newest checkpoint took to be written; None without one, or where it was not measured."""
    newest = last_checkpoint(step_folder)
    if newest is None:
        return None
    with suppress(OSError, ValidationError):  # replaced by a newer one, or of another version
        return _read(CheckpointPaths(newest).mark).seconds
    return None


def good_checkpoint(step_folder: Path, most: int | None) -> Path | None:
    """Return the newest complete checkpoint with sound weights, or None.

    Args:
        step_folder: Folder of the step.
        most: Optimizer steps that it has taken at most, because trouble began after them; None: any number.
    """
    for checkpoint in reversed(checkpoints(step_folder)):
        mark = _read(CheckpointPaths(checkpoint).mark)
        if mark.sound and (most is None or mark.global_step <= most):
            return checkpoint
    return None


def remove_incomplete(step_folder: Path) -> None:
    """Delete what a crash left incomplete: checkpoints, temporary files, and the artifact of a step that is not done."""
    for paths in StepPaths(step_folder).all_checkpoints():
        if not paths.mark.exists():
            shutil.rmtree(paths.folder)
    for path in StepPaths(step_folder).unfinished():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def pass_over_damaged(step_folder: Path) -> list[str]:
    """Rename newer checkpoints until the newest is whole; return one message for each that was passed over.

    Reads every file of the checkpoint that is to be resumed from. No process may be executing the step.
    """
    messages = []
    for checkpoint in reversed(checkpoints(step_folder)):
        damage = damage_of(checkpoint)
        if damage is None:
            break
        aside = CheckpointPaths(checkpoint).damaged
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        messages.append(
            f"{checkpoint.name} is damaged and passed over: {damage}; it is kept as {aside.name} until the next "
            "checkpoint is complete"
        )
    return messages


def damage_of(checkpoint: Path) -> str | None:
    """Return how the files of a complete checkpoint differ from those of its mark, or None if it is whole.

    A mark of another version of r1exp is no damage; `mark_of` refuses it.
    """
    path = CheckpointPaths(checkpoint).mark
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return f"{path.name} is no JSON"
    try:
        mark = _read(path)
    except ValidationError:
        return None
    for name, record in mark.files.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if (size := file.stat().st_size) != record.size:
            return f"{name} has {size:,} bytes and was written with {record.size:,}"
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        hashes = pool.map(hash_of_file, (checkpoint / name for name in mark.files))
        for (name, record), found in zip(mark.files.items(), hashes, strict=True):
            if found != record.hash:
                return f"{name} has another content than was written"
    return None


def rotate(step_folder: Path, limit: int | None, kept: Path | None = None) -> None:
    """Delete older checkpoints, after the mark of the newest is on the disk.

    Args:
        step_folder: Folder of the step.
        limit: Complete checkpoints that stay, the newest; None, or less than 1: all.
        kept: One that stays too, or None.
    """
    for damaged in StepPaths(step_folder).damaged_checkpoints():
        shutil.rmtree(damaged, ignore_errors=True)
    if limit is None or limit < 1:
        return
    for checkpoint in checkpoints(step_folder)[:-limit]:
        if checkpoint != kept:
            CheckpointPaths(checkpoint).mark.unlink()  # first: half a checkpoint must not look complete
            shutil.rmtree(checkpoint, ignore_errors=True)


def mark_of(checkpoint: Path, step: Owner, fork: ForkOrigin | None = None) -> Mark:
    """Return the mark of a checkpoint that `step` may continue from.

    Args:
        checkpoint: Its folder.
        step: The step.
        fork: The checkpoint of another run that the step begins with, which it may continue from too.

    Raises:
        Refused: it belongs to another experiment; the message states the differences.
    """
    path = CheckpointPaths(checkpoint).mark
    try:
        mark = _read(path)
    except ValidationError as error:
        raise Refused(f"{path} was not written by this version of r1exp; {_advice(checkpoint)}") from error
    if (mark.key, mark.data) == (step.key, step.data):
        return mark
    if fork is not None and is_origin(mark, fork):
        return mark
    raise Refused(
        f"{checkpoint} belongs to another experiment: {_difference(mark, step)}; {_advice(checkpoint)}"
    )


def is_origin(mark: Mark, fork: ForkOrigin) -> bool:
    """Whether a checkpoint is the one that a step was forked from."""
    return (mark.key, mark.global_step, content_of(mark)) == (fork.key, fork.at, fork.checkpoint)


def content_of(mark: Mark) -> str:
    """Return the hash of the files of a checkpoint."""
    return hash_of({name: record.hash for name, record in mark.files.items()})


def read_mark(checkpoint: Path) -> Mark | None:
    """Return the mark of a checkpoint; None where there is none, or another version wrote it."""
    with suppress(OSError, ValidationError):
        return _read(CheckpointPaths(checkpoint).mark)
    return None


def _read(mark: Path) -> Mark:
    return Mark.model_validate_json(mark.read_text(encoding="utf-8"), strict=True)


def _files_of(checkpoint: Path) -> list[Path]:
    mark = CheckpointPaths(checkpoint).mark
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path != mark)


def _writer_of(file: Path, world_size: int) -> int:
    """Return the rank that wrote a file of a checkpoint."""
    found = _OF_A_RANK.search(file.name)
    rank = 0 if found is None else int(found.group(1))
    return rank if rank < world_size else 0


def _flushed(file: Path) -> FileRecord:
    digest = hash_of_file(file)  # first, while the file is in memory
    sync_file(file)
    return FileRecord(size=file.stat().st_size, hash=digest)


def _advice(checkpoint: Path) -> str:
    return f"to start again, type: rm -r '{checkpoint.parent}'; to continue it, type its own command again"


def _difference(mark: Mark, step: Owner) -> str:
    """Return the first differences in data and settings; without any, the start model differs."""
    ours = step.deciding_settings()
    settings = [
        f"{key} is {there!r} there and {here!r} here" for key, there, here in _differing(mark.settings, ours)
    ]
    if mark.data != step.data:
        settings.insert(0, f"its data have the fingerprint {mark.data}, those of this step {step.data}")
    if not settings:
        return "it started from another model"
    more = len(settings) - _NUM_LISTED
    return ", ".join(settings[:_NUM_LISTED]) + (f", and {more} more" if more > 0 else "")


def _differing(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, value there, value here) for every leaf that differs."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from _differing(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield key, there, here
