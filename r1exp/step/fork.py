"""What a forked step began with: a checkpoint of another run's step, and the settings that differ from it. Torch-free."""

from typing import Any

from pydantic import PositiveInt

from r1exp.settings import Name, Settings

_KIND = ".kind"
_KL = ("beta", "algorithm.kl.")  # settings of the KL controller, whose state is in the checkpoint


class ForkOrigin(Settings):
    """The checkpoint that a step continues with changed settings."""

    run: Name  # directory of the run that wrote it
    step: Name  # name of the step there
    at: PositiveInt  # optimizer steps taken
    key: Name  # of the step there
    checkpoint: Name  # hash of its files
    changes: dict[str, tuple[Any, Any]]  # dotted key -> value there, value here

    @property
    def starts_kl_anew(self) -> bool:
        """Whether the KL controller starts from the settings of the fork instead of its state in the checkpoint."""
        return any(key.startswith(_KL) for key in self.changes)

    @property
    def starts_random_numbers_anew(self) -> bool:
        """Whether the random numbers start from the seed of the fork instead of their state in the checkpoint."""
        return "seed" in self.changes

    def text(self) -> str:
        """Return what was changed, for messages and reports."""
        if not self.changes:
            return "nothing changed"
        whole = {  # entries of a mapping that are there on one side only, such as the members of a committee
            key.removesuffix(_KIND): "left out" if now is None else "added"
            for key, (was, now) in self.changes.items()
            if key.endswith(_KIND) and None in (was, now)
        }
        parts = [f"{name} {what}" for name, what in whole.items()]
        parts += [
            f"{key} {_short(now)} (was {_short(was)})"
            for key, (was, now) in self.changes.items()
            if not any(key.startswith(f"{name}.") for name in whole)
        ]
        return ", ".join(parts)


def _short(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
