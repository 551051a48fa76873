"""r1exp: a Hydra-composed experiment framework for R1-style post-training.

The rooms of this package, in order, are listed in `tests/test_rooms.py`; a room imports only from the rooms before it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1exp.api import ComposedRun, RunResults, compose, open_run
    from r1exp.errors import Refused
    from r1exp.judgement.judgement import Judgement
    from r1exp.plugins import Plugin
    from r1exp.rewards.bounded_judge import judge

__version__ = "0.2.0.dev0"
__all__ = [
    "ComposedRun",
    "Judgement",
    "Plugin",
    "Refused",
    "RunResults",
    "__version__",
    "compose",
    "judge",
    "open_run",
]

_MODULES = {
    "ComposedRun": "r1exp.api",
    "Judgement": "r1exp.judgement.judgement",
    "Plugin": "r1exp.plugins",
    "Refused": "r1exp.errors",
    "RunResults": "r1exp.api",
    "compose": "r1exp.api",
    "judge": "r1exp.rewards.bounded_judge",
    "open_run": "r1exp.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import r1exp` takes no time."""
    if name not in _MODULES:
        raise AttributeError(f"module 'r1exp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
