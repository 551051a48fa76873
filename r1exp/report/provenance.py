"""Says how a run was made and how to run it again: its command, versions, machine, data and whole configuration. Torch-free."""

import shlex
from collections.abc import Mapping
from typing import Any

from r1exp.report.records import RunRecord

Json = dict[str, Any]


def provenance_of(record: RunRecord) -> Json:
    """Return the provenance of a run.

    Returns:
        `command`, which runs it again; `facts`, rows of (name, value); `choices` of config groups; `overrides` with what each
        key became; and `config`, which has for each step all its settings by dotted key.
    """
    manifest = record.manifest
    config = manifest.get("config", {})
    return {
        "run": record.name,
        "command": command_of(record.summary),
        "facts": _facts(record),
        "choices": {
            group: option for group, option in manifest.get("choices", {}).items() if option is not None
        },
        "overrides": {text: _became(text, config) for text in record.summary["overrides"]},
        "config": {name: flat(settings) for name, settings in manifest.get("steps", {}).items()},
        "diff": str((manifest.get("git") or {}).get("diff") or ""),
    }


def command_of(summary: Json) -> str:
    """Return the command line that starts a run again."""
    return shlex.join(["r1exp", *summary["overrides"]])


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    manifest = record.manifest
    git = manifest.get("git") or {}
    hardware = manifest.get("hardware", {})
    versions = ", ".join(
        f"{name} {version}" for name, version in manifest.get("versions", {}).items() if version
    )
    data = ", ".join(f"{step}: {fingerprint}" for step, fingerprint in manifest.get("data", {}).items())
    commit = git.get("commit", "")
    facts = [
        ("run", str(manifest.get("run_id") or record.name)),
        ("started", str(manifest.get("created", ""))),
        ("folder", str(record.folder.resolve())),
        ("typed in", str(record.plan.get("working_directory", ""))),
        ("seed", str(manifest.get("seed", ""))),
        ("commit", f"{commit} with uncommitted changes" if git.get("diff") else commit),
        ("versions", versions),
        ("machine", ", ".join(f"{name} {value}" for name, value in hardware.items())),
        ("data", data),
        ("step keys", ", ".join(manifest.get("step_keys", []))),
    ]
    return [(name, value) for name, value in facts if value]


def _became(override: str, config: Mapping[str, Any]) -> str:
    """Return the value that the key of an override has in the configuration of the run; empty for a config group."""
    value: Any = config
    for part in override.lstrip("+~").partition("=")[0].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None or isinstance(value, Mapping) else str(value)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return dotted key -> value as text."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found
