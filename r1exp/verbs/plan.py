"""`r1exp plan [-m] overrides...`: shows what `run` would do."""

from collections.abc import Sequence

from r1exp.errors import ExitCode
from r1exp.plan.members import plan_members
from r1exp.terminal import show
from r1exp.verbs.options import parse_options


def main(arguments: Sequence[str]) -> ExitCode:
    """Show the plan of a command line; for a sweep, its members and the plan of the first."""
    options = parse_options(arguments)
    show(plan_members(options.overrides, options.is_multirun, options.config_dirs), end="")
    return ExitCode.DONE
