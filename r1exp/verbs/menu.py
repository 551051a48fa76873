"""The verbs of the command line, and the text of `r1exp --help`.

To add a verb, write its file in this folder and add its line to `VERBS`.
"""

from collections.abc import Sequence

VERBS = {  # verb: (its arguments, what it does)
    "run": (
        "[-m] overrides...",
        "compose, check, run; with -m one run for each combination of listed values",
    ),
    "plan": (
        "[-m] overrides...",
        "show what `run` would do on one screen; --full, --launch, --yaml; device=h100 devices=8",
    ),
    "check": (
        "[--attack] overrides...",
        "score gold and adversarial answers with the rewards before training; --attack searches for exploits",
    ),
    "sweep": (
        "status|retry|report DIR",
        "show the state of each run of a multirun, restart failed runs, rank the runs",
    ),
    "report": (
        "RUN... [--open]",
        "write report.html, report.md and tables of a run, of several or of a sweep; --output DIR",
    ),
    "watch": ("RUN", "serve the report of a run or sweep on this machine while it trains"),
    "runs": (
        "[DIR] [state=...] [name=...] [sort=objective]",
        "list runs and sweeps with state, objective, age, and what differs",
    ),
    "reproduce": (
        "RUN [--checkout] | RUN OTHER",
        "start a run again from its manifest, and say what differs and whether the result is the same",
    ),
    "fork": (
        "[-m] [--plan] RUN@STEP... overrides...",
        "branch a checkpoint of a run with changed settings and the same random numbers; --help says more",
    ),
    "export": (
        "verl [output=DIR] [devices=N] [nodes=N] overrides...",
        "write a run for another framework: data, rewards, settings and the command",
    ),
    "clean": ("[DIR] [--free]", "show, or free, what no run needs of the step store"),
    "new": ("KIND NAME", "write a reward, dataset, prompt, algorithm or experiment of your own"),
    "help": (
        "KEY|GROUP|GROUP=OPTION",
        "explain a key, its values, its default and what reads it; list options",
    ),
    "doctor": ("", "show what is installed, and what is missing for which feature"),
}
_EXAMPLES = """\
  r1exp                                       the quickstart: a tiny model on a CPU, minutes
  r1exp rewards=vote_partial beta=0.01        change the reward and the KL penalty
  r1exp -m rewards.graded.weight=0,1 seed=1,2 four runs, compared
  r1exp -m hydra/sweeper=optuna 'learning_rate=interval(1e-5,1e-3)'   values that Optuna chooses
  r1exp fork RUN@60 beta=0,0.01 -m            two ways on from one checkpoint, with common random numbers
  r1exp debug=fast                            every step shortened to a few optimizer steps

Options: -m/--multirun, --config-dir DIR (a folder with config groups of your own), --help, --version.
Of run and plan: --from STEP, --until STEP, --only STEP (which steps of the pipeline may run; the others are reused).
Of Hydra: --cfg job|hydra|all [--package KEY] [--resolve], --info [TOPIC], --hydra-help, and -sc for tab completion:
  eval "$(r1exp -sc install=bash)"      bash and zsh; fish: r1exp -sc install=fish | source
Exit codes: 0 done, 2 refused before running, 3 failed, 4 stopped by health, 75 preempted, 130 interrupted.
"""


def command_help(arguments: Sequence[str]) -> str:
    """Return the help of the command: its verbs, options, groups and their options."""
    from r1exp.config.compose import groups, search_path_of, session
    from r1exp.verbs.options import parse_options

    lines = ["r1exp: experiments in R1-style post-training, one command each.\n\n"]
    for verb, (taken, text) in VERBS.items():
        call = f"r1exp {'[run]' if verb == 'run' else verb} {taken}".rstrip()
        lines.append(f"  {call:<36} {text}\n")
    lines += ["\n", _EXAMPLES, "\n", "Groups and their options:\n"]
    options = parse_options(arguments)
    with session(options.config_dirs, search_path_of(options.overrides)[0]):
        lines += [f"  {name}: {', '.join(found)}\n" for name, found in groups().items()]
    return "".join(lines)
