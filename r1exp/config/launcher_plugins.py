"""Translates the launcher plug-ins of Hydra, which r1exp does not use, into what to type instead.

Members are planned together, share finished steps and are continued one by one: a plug-in that pickles functions and starts
them elsewhere knows of none of that. Sources: hydra-joblib-launcher 1.2, hydra-submitit-launcher 1.2.
"""

from collections.abc import Sequence

from r1exp.config.overrides import Override
from r1exp.errors import Refused

LAUNCHER = "hydra/launcher"
_SETTINGS = "hydra.launcher."
_HERE, _JOBS = "sweep.parallel=auto", "launcher=slurm"
_INSTEAD = {"joblib": _HERE, "submitit_local": _HERE, "submitit_slurm": _JOBS}
# Setting of a plug-in -> what to type, with the value in place of {}.
_KEYS = {
    "n_jobs": "sweep.parallel={}",
    "array_parallelism": "sweep.parallel={}",
    "timeout_min": "launcher.time={}",
    "partition": "launcher.partition={}",
    "account": "launcher.account={}",
    "qos": "launcher.qos={}",
    "constraint": "launcher.constraint={}",
    "nodes": "launcher.nodes={}",
    "tasks_per_node": "launcher.processes_per_node={}",
    "cpus_per_task": "launcher.cpus_per_node={}",
    "gpus_per_node": "launcher.gpus_per_node={}",
    "mem_gb": "launcher.extra=['--mem={}G']",
    "signal_delay_s": "launcher.signal_seconds={}",
    "setup": "launcher.setup={}",
    "name": "name={}",
}


def refuse_launcher_plugins(overrides: Sequence[Override], chosen: str | None = None) -> None:
    """Refuse a launcher plug-in of Hydra, and settings of one.

    Args:
        overrides: As typed.
        chosen: The plug-in that a file chooses; None: none is known yet.

    Raises:
        Refused: there is one; the message has what to type instead.
    """
    typed = [override for override in overrides if override.text.startswith(f"{LAUNCHER}=")]
    names = [override.text.partition("=")[2] for override in typed]
    name = next((name for name in [*names, chosen or ""] if name not in ("", "basic")), None)
    settings = [override for override in overrides if override.key.startswith(_SETTINGS)]
    if name is None and not settings:
        return
    found = [override.text for override in typed if override.text != f"{LAUNCHER}=basic"]
    found += [f"{LAUNCHER}={name} in a file"] if name is not None and not found else []
    found += [override.text for override in settings]
    first = _INSTEAD.get(name or "")
    known = [_instead(override, first) for override in settings]
    instead = list(dict.fromkeys(text for text in known if text is not None))
    if first is None and name is not None:
        advice = f"{_HERE} for members side by side on this machine, or {_JOBS} for an array of jobs"
    else:
        is_given = first == _HERE and any(text.startswith("sweep.parallel=") for text in instead)
        advice = " ".join([*([first] if first is not None and not is_given else []), *instead])
    unknown = [override.text for override, text in zip(settings, known, strict=True) if text is None]
    rest = f"; nothing is like {', '.join(unknown)}" if unknown and name is not None else ""
    raise Refused(
        f"{' '.join(found)}: r1exp starts the members of a sweep itself, and no launcher plug-in of Hydra; type "
        f"{advice or f'{_HERE}, or {_JOBS}'}{rest}"
    )


def _instead(override: Override, place: str | None) -> str | None:
    """Return what to type in place of a setting of a plug-in; None where there is nothing like it.

    Args:
        override: The setting.
        place: What replaces the plug-in: settings of a job mean nothing on this machine.
    """
    text = _KEYS.get(override.key.removeprefix(_SETTINGS))
    value = override.value
    if text is None or (place == _HERE and text.startswith("launcher.")):
        return None
    return text.format("auto" if text == _KEYS["n_jobs"] and value.startswith("-") else value)
