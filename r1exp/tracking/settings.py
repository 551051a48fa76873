"""Where numbers go. conf/tracking/*.yaml. Torch-free."""

import netrc
import os
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlparse

from pydantic import Field

from r1exp.errors import Refused
from r1exp.settings import Name, Settings


class NoTracking(Settings):
    """metrics.jsonl only."""

    kind: Literal["none"]


class WandbTracking(Settings):
    """Weights & Biases, one run a step, all steps of one run in one group."""

    kind: Literal["wandb"]
    project: Name
    entity: Name | None  # team or user; null: the key's default
    mode: Literal["auto", "online", "offline"]  # auto: online where a key is configured
    tags: tuple[Name, ...]


TrackingSettings = Annotated[WandbTracking | NoTracking, Field(discriminator="kind")]


Mode = Literal["online", "offline", "disabled"]


def has_api_key() -> bool:
    """Whether W&B would find a key without asking: in the environment or in netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    given = os.environ.get("NETRC")
    places = [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]
    return host is not None and any(_names(place, host) for place in places)


def resolved_mode(settings: WandbTracking) -> Mode:
    """Return where W&B writes, so that it never stops to ask for a key.

    `auto` does what the variable WANDB_MODE says, and without one is online where there is a key.

    Raises:
        Refused: online is asked for, and there is no key.
    """
    said = os.environ.get("WANDB_MODE", "auto") if settings.mode == "auto" else settings.mode
    if said == "auto":
        return "online" if has_api_key() else "offline"
    if said == "online" and not has_api_key():
        who = "tracking.mode" if settings.mode == "online" else "the variable WANDB_MODE"
        raise Refused(
            f"{who} says online, but there is no W&B key in WANDB_API_KEY or .netrc, and nobody is there to be asked; "
            "type `wandb login` first, or tracking.mode=offline"
        )
    if said not in get_args(Mode):
        raise Refused(
            f"the variable WANDB_MODE is {said!r}; W&B knows {', '.join(get_args(Mode))}: set one of these"
        )
    return said  # type: ignore[return-value] # just checked


def _names(place: Path, host: str) -> bool:
    """Whether a netrc file has a password for `host`; read as W&B does, whoever else may read it."""
    try:
        entry = netrc.netrc(str(place)).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return False
    return entry is not None and bool(entry[2])
