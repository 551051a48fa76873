"""Shows the plan of a command line: as one screen, in full, as commands and files, or as a YAML file to run again."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from r1exp.config.compose import search_path_of, session
from r1exp.errors import Refused
from r1exp.plan.devices import Hardware, planning_for
from r1exp.plan.full import full_text, launch_text
from r1exp.plan.members import Command, Member, command_of, members_of
from r1exp.plan.race import race_of
from r1exp.plan.saved import refuse_other_steps, saved_text
from r1exp.plan.step_range import WHOLE, StepRange

View = Literal["screen", "full", "launch", "yaml"]
_A_NODE = 8  # devices of a machine whose cards were given without their number


def plan_text(
    arguments: Sequence[str],
    *,
    is_multirun: bool = False,
    config_dirs: Sequence[Path] = (),
    span: StepRange = WHOLE,
    view: View = "screen",
    given: Hardware | None = None,
    width: int = 120,
    colors: bool = False,
) -> str:
    """Return the plan of a command line.

    Args:
        arguments: Overrides.
        is_multirun: Whether -m was typed.
        config_dirs: Folders of the user with config groups.
        span: The steps that may run.
        view: What is shown of it.
        given: The devices that were typed; None: this machine's.
        width: Of the screen, in characters; at most 120 are used.
        colors: Whether to write colors of a terminal.

    Raises:
        Refused: the command cannot work as typed.
    """
    search_path, overrides = search_path_of(arguments)
    if given is not None:
        overrides = _for_hardware(overrides, given)
    with session(config_dirs, search_path), planning_for(given):
        command = command_of(overrides, is_multirun, span)
        members = members_of(command)
        first = members[0]
        race_of(command, members)  # refused here also where the view says nothing of it
        if view == "screen":
            # Imported late: rich is needed for the screen only.
            from r1exp.plan.screen import screen_of
            from r1exp.plan.sweep_screen import sweep_screen_of

            if command.is_sweep:
                return sweep_screen_of(command, members, given, width=width, colors=colors)
            return screen_of(first.experiment, first.steps, given, width=width, colors=colors)
        if view == "yaml":
            if len(members) > 1:
                raise Refused(
                    f"--yaml writes one run, and these are {len(members)}; leave out -m and give one value each"
                )
            text = saved_text(first.experiment)
        elif view == "full":
            text = _facts(command, members) + _listed(members)
            text += full_text(first.experiment, first.steps, given)
        else:
            text = _listed(members) + launch_text(first.experiment, first.steps)
    if view == "yaml":
        refuse_other_steps(text, [step.key for step in first.steps], config_dirs, search_path)
    return text


def _facts(command: Command, members: Sequence[Member]) -> str:
    """Return the design of a sweep and which differences it can see, in full."""
    if not command.is_sweep or len(members) < 2:
        return ""
    from r1exp.plan.sweep_screen import planned_facts  # rich, as for the screen

    found = [(name, text) for name, text in planned_facts(command, members) if text]
    return (
        "".join(f"{name}\n" + "".join(f"  {line}\n" for line in text.splitlines()) for name, text in found)
        + "\n"
    )


def _listed(members: Sequence[Member]) -> str:
    if len(members) == 1:
        return ""
    lines = "".join(f"  {number}: {' '.join(member.arguments)}\n" for number, member in enumerate(members))
    return f"{len(members)} runs\n{lines}\nThe first of them\n\n"


def _for_hardware(overrides: Sequence[str], given: Hardware) -> list[str]:
    """Return the overrides with the kind of device that was given, which this machine may not have.

    Raises:
        Refused: the overrides ask for another kind of device.
    """
    typed = [text for text in overrides if text.lstrip("+").startswith("launcher.device=")]
    other = next((text for text in typed if text.partition("=")[2] not in ("auto", given.device)), None)
    if other is not None:
        raise Refused(f"device={given.name} and {other} do not go together; leave one of the two out")
    if given.device == "cuda":  # what launcher=local, ddp and zero read to number the devices
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(given.number or _A_NODE)))
    return [*(text for text in overrides if text not in typed), f"launcher.device={given.device}"]
