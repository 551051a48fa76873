"""`r1exp fork [-m] [--plan] RUN@STEP... overrides...`: branches checkpoints of runs with changed settings.

`r1exp fork DIR` without @ continues a fork that has started, from what its own directory has.
"""

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from r1exp.config.compose import session
from r1exp.errors import ExitCode, Refused
from r1exp.paths import RunPaths
from r1exp.plan.run_plan import has_plan, read_plan
from r1exp.plan.show import plan_text
from r1exp.report.summary import headline
from r1exp.runner.fork import Target, command_of_fork, preview
from r1exp.runner.run import Run
from r1exp.runner.run_directory import perform
from r1exp.runner.sweep import run_members
from r1exp.terminal import say, show
from r1exp.verbs.options import parse_options

HELP = """\
r1exp fork RUN@STEP KEY=VALUE...          continue the checkpoint after STEP optimizer steps of a run's focus step, changed
r1exp fork RUN/NAME@STEP KEY=VALUE...     the same of the step NAME of its pipeline
r1exp fork RUN@STEP KEY=A,B,... -m        a sweep of forks; seed=1,2 and sweep.parallel=N as in every sweep
r1exp fork RUN@STEP RUN@STEP KEY=A,B -m   forks of several runs, for example the seeds of a sweep: SWEEP/0@60 SWEEP/1@60
r1exp fork --plan RUN@STEP KEY=VALUE...   show the checkpoint, what changes and what would run; run nothing
r1exp fork DIR                            continue a fork that was killed; RUN may be deleted by then

A fork has the weights, the optimizer's state, the random numbers and the place in the data of the checkpoint, so that forks of
one checkpoint have the same prompts in the same order and the same random numbers. Without a change it ends where the run
ends, bit for bit on a CPU: in a sweep type the run's own value too, as the unchanged control.

It answers what a setting does from that step on, given the common past, and not what a whole run with it would do.

May change: beta, learning_rate, temperature, num_generations, max_completion_length, max_steps (it counts from the start of the run,
and the schedule of the learning rate is that of a run of so many), rewards.*, algorithm.*, trainer.*, health.*, seed.
May not: model, dataset, prompt, stage, the optimizer, ranks, prompts per optimizer step. What is refused says why.
"""
_PLAN = "--plan"


def main(arguments: Sequence[str]) -> ExitCode:
    """Fork runs, show what would run, or continue a fork.

    Raises:
        Refused: no checkpoint is named, or it cannot be continued so.
    """
    options = parse_options([argument for argument in arguments if argument != _PLAN], takes_range=False)
    places = [text for text in options.overrides if "=" not in text]
    changes = [text for text in options.overrides if "=" in text]
    targets = [Target.read(text) for text in places if "@" in text]
    if not places:
        raise Refused(
            "`r1exp fork` takes a checkpoint, RUN@STEP; `r1exp runs` lists the runs, and `r1exp fork --help` explains"
        )
    if not targets:
        if len(places) > 1 or changes:
            raise Refused(
                f"{places[0]}: which checkpoint? type {places[0]}@STEP, with the optimizer steps that it has taken"
            )
        return _continue(Path(places[0]))
    if len(targets) < len(places):
        raise Refused(
            f"{next(text for text in places if '@' not in text)}: every run needs its checkpoint: RUN@STEP"
        )
    if len(targets) > 1 and not options.is_multirun:
        raise Refused(f"{len(targets)} runs are {len(targets)} forks: put -m before them")
    config_dirs = [folder.resolve() for folder in options.config_dirs]
    parents = [target.parent() for target in targets]
    with session(config_dirs):
        first, *further = [
            command_of_fork(parent, changes, is_multirun=options.is_multirun) for parent in parents
        ]
    place = Path(parents[0].plan.working_directory)
    if not place.is_dir():
        place = Path.cwd()
    if place != Path.cwd():
        say(f"relative paths start from {place}, as in the run")
    with chdir(place):
        if _PLAN in arguments:
            with session(config_dirs):
                show(preview([first, *further], is_multirun=options.is_multirun))
            show(plan_text(first, is_multirun=options.is_multirun, config_dirs=config_dirs), end="")
            return ExitCode.DONE
        return run_members(first, options.is_multirun, config_dirs, further=further)


def _continue(run: Path) -> ExitCode:
    """Continue a fork that has started, from what its directory has.

    Raises:
        Refused: it is none.
    """
    if not has_plan(run) or not RunPaths(run).fork_plan.is_file():
        raise Refused(
            f"{run} is no fork that has started; to fork it, type {run}@STEP with the optimizer steps of a checkpoint"
        )
    run = run.resolve()
    plan = read_plan(run)
    place = Path(plan.working_directory)
    with chdir(place if place.is_dir() else Path.cwd()):
        code, summary, _ = perform(Run(plan, run))
    if summary:
        show(headline(summary, run))
    return code
