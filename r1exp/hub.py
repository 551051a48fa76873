"""Finds the commit that a revision on the Hugging Face hub is now, so that a plan names exactly what is loaded. Torch-free."""

import re
from functools import cache
from pathlib import Path
from typing import Literal

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 2.0  # seconds


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit, which cannot change, and not a branch or tag."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


@cache
def commit_of(repository: str, revision: str | None, kind: Literal["model", "dataset"]) -> str | None:
    """Return the commit of a revision: of the hub, or of the cache if the hub cannot be asked; None if neither knows it.

    Args:
        repository: owner/name.
        revision: Branch, tag or commit; None: main.
        kind: What the repository holds.
    """
    if is_commit(revision):
        return revision
    import httpx  # the HTTP client of huggingface_hub
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if not constants.is_offline_mode():
        try:
            found = HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=_TIMEOUT)
        except (httpx.HTTPError, HfHubHTTPError, OSError):
            pass  # no network, or a reason that the run's own check states
        else:
            return found.sha
    folder = f"{kind}s--{repository.replace('/', '--')}"
    file = Path(constants.HF_HUB_CACHE) / folder / "refs" / (revision or "main")
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None
