"""Where numbers go. conf/tracking/*.yaml. Torch-free."""

import netrc
import os
from typing import Annotated, Literal
from urllib.parse import urlparse

from pydantic import Field

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


def has_api_key() -> bool:
    """Whether W&B would find a key without asking: in the environment or in netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host is not None and netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def resolved_mode(settings: WandbTracking) -> Literal["online", "offline"]:
    """Return where W&B writes: `auto` is offline without a key, so that nothing ever asks for one."""
    if settings.mode == "auto":
        return "online" if has_api_key() else "offline"
    return settings.mode
