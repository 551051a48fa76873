"""`r1exp check [--attack] overrides...`: scores gold and adversarial answers with the composed rewards.

With `--attack` it also searches for completions that score well without a right answer.
"""

from collections.abc import Sequence

from r1exp.errors import ExitCode
from r1exp.runner.reward_check import check_rewards
from r1exp.terminal import show
from r1exp.verbs.options import parse_options

_ATTACK = "--attack"


def main(arguments: Sequence[str]) -> ExitCode:
    """Check the rewards of every step of a command line."""
    options = parse_options([argument for argument in arguments if argument != _ATTACK])
    text, code = check_rewards(options.overrides, options.config_dirs, attacks=_ATTACK in arguments)
    show(text, end="")
    return code
