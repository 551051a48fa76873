"""Settings of tracking. conf/tracking/*.yaml. Torch-free."""

import netrc
import os
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlparse

from pydantic import Field

from r1exp.errors import Refused
from r1exp.settings import Name, Settings


class NoTracking(Settings):
    """Writes metrics.jsonl only."""

    kind: Literal["none"]


class WandbTracking(Settings):
    """Writes to Weights & Biases: one W&B run per step, grouped by run."""

    kind: Literal["wandb"]
    project: Name  # W&B project
    entity: Name | None  # team or user; null: default of the API key
    mode: Literal["auto", "online", "offline"]  # auto: online if an API key is configured
    tags: tuple[Name, ...]  # tags of every W&B run


TrackingSettings = Annotated[WandbTracking | NoTracking, Field(discriminator="kind")]


Mode = Literal["online", "offline", "disabled"]


def has_api_key() -> bool:
    """Return whether W&B finds an API key in the environment or in netrc, without a prompt."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    given = os.environ.get("NETRC")
    places = [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    return host is not None and any(_has_password(place, host) for place in places)


def resolved_mode(settings: WandbTracking) -> Mode:
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
