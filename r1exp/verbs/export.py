"""`r1exp export verl [output=DIR] [devices=N] [nodes=N] overrides...`: writes a run for another framework.

`output`, `devices` and `nodes` are words of this verb: the folder to make, and the machines that the other framework is to use.
"""

from collections.abc import Sequence
from pathlib import Path

from r1exp.config.compose import search_path_of, session
from r1exp.config.experiment import experiment_from
from r1exp.errors import ExitCode, Refused
from r1exp.export.verl import Cluster, export
from r1exp.plan.steps import planned_steps
from r1exp.settings import nearest
from r1exp.terminal import say, show
from r1exp.verbs.options import parse_options

_TARGETS = ("verl",)
_WORDS = {"output": "verl", "devices": "8", "nodes": "1"}


def main(arguments: Sequence[str]) -> ExitCode:
    """Write the files and print the command.

    Raises:
        Refused: another framework, a setting without a counterpart, or a folder that exists.
    """
    target = arguments[0] if arguments else "nothing"
    if target not in _TARGETS:
        close = nearest(target, _TARGETS)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Refused(f"`r1exp export` writes for {', '.join(_TARGETS)}, and found {target}{hint}")
    words, rest = dict(_WORDS), []
    for argument in arguments[1:]:
        key, equals, value = argument.partition("=")
        if equals and key in words:
            words[key] = value
        else:
            rest.append(argument)
    wrong = [key for key in ("devices", "nodes") if not words[key].isdecimal() or not int(words[key])]
    if wrong:
        raise Refused(f"{wrong[0]}={words[wrong[0]]} must be a number from 1")
    options = parse_options(rest)
    folders, overrides = search_path_of(options.overrides)
    with session(options.config_dirs, folders):
        experiment = experiment_from(overrides)
        steps = [step for step in planned_steps(experiment) if step.name == experiment.focus]
        cluster = Cluster(int(words["nodes"]), int(words["devices"]))
        command = export(steps[0], experiment.name, Path(words["output"]), cluster)
    say(f"written: {words['output']}; in verl's environment: pip install --no-deps r1exp, then type")
    show(command)
    return ExitCode.DONE
