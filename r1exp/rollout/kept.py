"""Keeps the completions of a step on disk while it generates, so that an interrupted step asks for none twice.

    <step>/checkpoints/rows/rank-0-of-2.jsonl
    {"owner": {"key": "4a1b...", ...}}
    {"part": "9c0d...", "rows": {"12": ["the text", 31, true, null]}, "state": null}

The first line says whose rows they are: those of another step, another number of ranks or, for a model in this process,
another device are dropped. A part is one call of a generator, identified by its prompts and its sampling. Each line is
written in one piece as soon as its rows exist, and the file is flushed to the disk every two seconds; a line that a crash
left unfinished is dropped. `state` is what a generator needs to draw the next rows as if it had not been interrupted.
Torch-free.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from r1exp.errors import StepFailed
from r1exp.files import why_not_written
from r1exp.records import Completion, Message

_FLUSH_EVERY = 2.0  # seconds between two fsync


class KeptRows:
    """The rows of one rank of a step, by part.

    Args:
        path: The file; None: nothing is kept.
        owner: What decides the rows, apart from prompts and sampling; JSON.
        watch: Receives completions as soon as they are kept, and those of earlier attempts once. What it raises ends the
            generation; calls come from several threads.

    Raises:
        StepFailed: the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path | None = None,
        owner: Mapping[str, Any] | None = None,
        watch: Callable[[Collection[Completion]], None] = lambda completions: None,
    ) -> None:
        self._path = path
        self._watch = watch
        self._file: int | None = None
        self._lock = threading.Lock()  # answers of an endpoint come in several threads
        self._flushed = time.monotonic()
        self._rows: dict[str, dict[int, Any]] = {}
        self._states: dict[str, str | None] = {}
        if path is not None:
            try:
                self._open(path, {"owner": dict(owner or {})})
            except OSError as error:
                raise StepFailed(why_not_written(error, path.parent)) from error

    def part(self, name: str) -> "KeptPart":
        """Return the part of this name."""
        return KeptPart(self, name, self._rows.get(name, {}), self._states.get(name))

    def completions(self, prompts: Sequence[Sequence[Message]], n: int, sampling: Any) -> "KeptCompletions":
        """Return the kept completions of one call of a generator.

        Args:
            prompts: Its prompts.
            n: Completions of each prompt.
            sampling: How they are sampled, a `Sampling`.
        """
        return KeptCompletions(self._part_of(prompts, n, sampling), self._watch)

    def num_completions(self, prompts: Sequence[Sequence[Message]], n: int, sampling: Any) -> int:
        """Return how many completions of a call are kept; the arguments are those of `completions`."""
        return len(self._part_of(prompts, n, sampling).rows)

    def _part_of(self, prompts: Sequence[Sequence[Message]], n: int, sampling: Any) -> "KeptPart":
        if self._path is None:
            return self.part("")
        call = [[list(prompt) for prompt in prompts], n, sampling.model_dump(mode="json")]
        return self.part(sha256(json.dumps(call).encode()).hexdigest()[:16])

    def append(self, name: str, rows: Mapping[int, Any], state: str | None) -> None:
        """Write the rows of a part."""
        if self._file is None:
            return
        line = json.dumps(
            {"part": name, "rows": {str(key): row for key, row in rows.items()}, "state": state}
        )
        with self._lock:
            try:
                _write_all(self._file, f"{line}\n".encode())
                if time.monotonic() - self._flushed >= _FLUSH_EVERY:
                    os.fsync(self._file)
                    self._flushed = time.monotonic()
            except OSError as error:
                assert self._path is not None
                raise StepFailed(
                    f"{why_not_written(error, self._path.parent)}; what was generated before is kept, and the same command "
                    "goes on from there"
                ) from error

    def remove(self) -> None:
        """Delete the file: the artifact has the rows."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            if self._path is not None:
                self._path.unlink(missing_ok=True)
                with suppress(OSError):  # another rank's file is still there
                    self._path.parent.rmdir()

    def _open(self, path: Path, header: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._read(path, header) if path.exists() else b""
        if not whole:
            _replace(path, f"{json.dumps(header)}\n".encode())
        elif path.stat().st_nlink > 1:  # another run has a hard link to it
            _replace(path, whole)
        else:
            os.truncate(path, len(whole))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def _read(self, path: Path, header: dict[str, Any]) -> bytes:
        """Read the rows of this owner; return the bytes of the file that are whole, none if it has another owner."""
        content = path.read_bytes()
        end = 0
        for line in content.splitlines(keepends=True):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if end == 0:
                if row != header:
                    return b""
            elif not isinstance(row, dict) or row.keys() != {"part", "rows", "state"}:
                break
            else:
                rows = {int(key): value for key, value in row["rows"].items()}
                self._rows.setdefault(row["part"], {}).update(rows)
                self._states[row["part"]] = row["state"]
            end += len(line)
        return content[:end]


class KeptPart:
    """The rows of one part: `rows` has those of earlier attempts, and `state` what the last of them left."""

    def __init__(self, kept: KeptRows, name: str, rows: dict[int, Any], state: str | None) -> None:
        self._kept, self._name = kept, name
        self.rows, self.state = rows, state

    def add(self, rows: Mapping[int, Any], state: str | None = None) -> None:
        """Write further rows; usable from several threads at once.

        Raises:
            StepFailed: they cannot be written.
        """
        self._kept.append(self._name, rows, state)


class KeptCompletions:
    """The completions of one call of a generator, by number: that of the prompt times n, plus that of the sample."""

    def __init__(self, part: KeptPart, watch: Callable[[Collection[Completion]], None]) -> None:
        self._part = part
        self._watch = watch
        self.done = {number: _completion(row) for number, row in part.rows.items()}
        self.state = part.state
        if self.done:
            watch(self.done.values())

    def add(self, completions: Mapping[int, Completion], state: str | None = None) -> None:
        """Write further completions; usable from several threads at once.

        Args:
            completions: By number.
            state: What the generator needs to go on from here.

        Raises:
            StepFailed: they cannot be written.
        """
        rows = {number: _row(completion) for number, completion in completions.items()}
        self._part.add(rows, state)
        self._watch(completions.values())


def _row(completion: Completion) -> list[Any]:
    row = [completion.text, completion.num_tokens, completion.finished, completion.logprobs]
    further = [completion.reasoning, completion.num_prompt_tokens, completion.finish_reason]
    return row if further == [None] * len(further) else row + further


def _completion(row: list[Any]) -> Completion:
    text, num_tokens, finished, logprobs, *further = row
    return Completion(text, num_tokens, finished, None if logprobs is None else tuple(logprobs), *further)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _replace(path: Path, content: bytes) -> None:
    """Write a new file in place of `path`; its permissions follow the umask."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write_all(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    unfinished.replace(path)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
