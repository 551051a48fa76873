"""`r1exp check overrides...`: scores gold and adversarial answers with the composed rewards."""

from collections.abc import Sequence

from r1exp.errors import ExitCode
from r1exp.runner.reward_check import check_rewards
from r1exp.terminal import show
from r1exp.verbs.options import parse_options


def main(arguments: Sequence[str]) -> ExitCode:
    """Check the rewards of every step of a command line."""
    options = parse_options(arguments)
    text, code = check_rewards(options.overrides, options.config_dirs)
    show(text, end="")
    return code
