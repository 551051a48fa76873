"""Tracks in Weights & Biases: one W&B run per step. The only file that imports wandb.

Offline runs are written below the step's folder; `wandb sync` uploads them later (docs/tracking.md).
"""

import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlparse

from r1exp.errors import ExitCode, Refused
from r1exp.settings import Name
from r1exp.terminal import say
from r1exp.tracking.base import Level, Row, TrackedRun, Tracker

INIT_TIMEOUT = 30.0  # seconds to wait for the server
Mode = Literal["online", "offline", "disabled"]


class Wandb(Tracker):
    """Weights & Biases."""

    kind: Literal["wandb"]
    project: Name  # W&B project
    entity: Name | None  # team or user; null: default of the API key
    mode: Literal["auto", "online", "offline"]  # auto: online if an API key is configured
    tags: tuple[Name, ...]  # tags of every W&B run

    _run: Any = None

    def refuse_unready(self) -> None:
        """Raise Refused if an API key is needed and missing."""
        super().refuse_unready()
        resolved_mode(self)

    def start(self, run: TrackedRun) -> None:
        """Start the W&B run, or resume it if its id exists. Never prompts, and waits `INIT_TIMEOUT` at most.

        Where the server does not answer or rejects the key, the run is written to files, as in offline mode.
        """
        _use_writable_folders(run.folder / "wandb" / ".cache")
        import wandb
        from wandb.errors import CommError

        run.folder.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {
            "entity": self.entity,
            "project": self.project,
            "id": run.identity,
            "name": run.name,
            "group": run.group,
            "job_type": run.job_type,
            "config": dict(run.config),
            "tags": list(self.tags),
            "dir": str(run.folder),
            "resume": "allow",
            "settings": wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_job_creation=True,
                init_timeout=INIT_TIMEOUT,
            ),
        }
        try:
            self._run = wandb.init(mode=resolved_mode(self), **options)
        except CommError as error:
            wandb.teardown()  # W&B's service process still holds the id
            reason = str(error).partition("\n")[0]
            say(f"W&B: {reason}; its files stay in {run.folder / 'wandb'} until `wandb sync`")
            self._run = wandb.init(mode="offline", **options)

    def log(self, row: Row, step: int) -> None:
        """Log a row at an optimizer step."""
        self._run.log({key: value for key, value in row.items() if value is not None}, step=step)

    def log_completions(self, rows: Sequence[Row], step: int) -> None:
        """Log a table under the key `completions`."""
        import wandb

        columns = list(rows[0])
        table = wandb.Table(columns=[*columns], data=[[row[column] for column in columns] for row in rows])
        self._run.log({"completions": table}, step=step)

    def alert(self, title: str, text: str, level: Level, step: int) -> None:
        """Send an alert; W&B passes it on by e-mail or Slack, as the user's settings there say."""
        from wandb import AlertLevel  # type: ignore[attr-defined] # missing in wandb's stub

        levels = {"warn": AlertLevel.WARN, "error": AlertLevel.ERROR}
        self._run.alert(title=title, text=f"step {step}: {text}", level=levels[level])

    def summarize(self, values: Row) -> None:
        """Write values to the summary of the W&B run."""
        self._run.summary.update(dict(values))

    def finish(self, code: ExitCode) -> None:
        """Finish the run and wait until its file is complete; a code other than 0 marks the run as failed."""
        import wandb

        try:
            self._run.finish(exit_code=int(code))
        finally:
            wandb.teardown()  # `finish` returns while W&B's service process still writes


def _use_writable_folders(folder: Path) -> None:
    """Let W&B keep its own files in `folder` where the user has no home folder, or one that cannot be written.

    Its service process would otherwise write a log of its own to standard error.
    """
    home = os.environ.get("HOME")
    if home is None or not os.access(home, os.W_OK):
        for name in ("CACHE", "DATA", "CONFIG"):
            os.environ.setdefault(f"WANDB_{name}_DIR", str(folder.resolve()))


def has_api_key() -> bool:
    """Return whether W&B finds an API key in the environment or in netrc, without a prompt."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    given = os.environ.get("NETRC")
    try:
        places = [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    except RuntimeError:  # the user has no home folder
        return False
    return host is not None and any(_has_password(place, host) for place in places)


def resolved_mode(settings: Wandb) -> Mode:
    """Return the mode for `wandb.init`, chosen so that W&B never prompts for an API key.

    `auto` uses the variable WANDB_MODE; if that is not set, it is online if there is an API key.

    Raises:
        Refused: the mode is online, and there is no API key; or WANDB_MODE is not a mode of W&B.
    """
    mode = os.environ.get("WANDB_MODE", "auto") if settings.mode == "auto" else settings.mode
    if mode == "auto":
        return "online" if has_api_key() else "offline"
    if mode == "online" and not has_api_key():
        source = "tracking.mode" if settings.mode == "online" else "the variable WANDB_MODE"
        raise Refused(
            f"{source} is online, but there is no W&B key in WANDB_API_KEY or .netrc, and r1exp cannot prompt for one; "
            "type `wandb login` first, or tracking.mode=offline"
        )
    if mode not in get_args(Mode):
        raise Refused(
            f"the variable WANDB_MODE is {mode!r}, but must be one of {', '.join(get_args(Mode))}; set one of these"
        )
    return mode  # type: ignore[return-value] # just checked


def _has_password(place: Path, host: str) -> bool:
    """Return whether a netrc file has a password for `host`; like W&B, ignore the file's permissions."""
    try:
        entry = netrc.netrc(str(place)).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return False
    return entry is not None and bool(entry[2])
