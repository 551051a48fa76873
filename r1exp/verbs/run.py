"""`r1exp [run] [-m] [--from STEP] [--until STEP] [--only STEP] overrides...`: composes, checks and runs."""

from collections.abc import Sequence

from r1exp.errors import ExitCode
from r1exp.runner.sweep import run_members
from r1exp.verbs.options import parse_options


def main(arguments: Sequence[str]) -> ExitCode:
    """Run a command line, or the members of a sweep."""
    options = parse_options(arguments, takes_range=True)
    return run_members(options.overrides, options.is_multirun, options.config_dirs, options.span)
