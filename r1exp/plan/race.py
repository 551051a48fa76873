"""Plans a race of settings (`-m ... sweep.race=true`): its settings, the order of its seeds, and when it ends."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1exp.errors import Refused
from r1exp.plan.members import Command, Member
from r1exp.plan.slurm_job import job_of

if TYPE_CHECKING:
    from r1exp.statistics.racing import Rules

ALPHA = 0.05  # probability of a false choice, at most
_SPREAD, _LUCK = (
    0.04,
    0.02,
)  # standard deviations for the expected runs: of the settings' accuracies, and of the seeds of one
_STEP_SEED = re.compile(r"\+*pipeline\.steps\.[^.]+\.set\.seed=")


@dataclass(frozen=True)
class Race:
    """The settings of a race and their seeds."""

    settings: tuple[tuple[str, ...], ...]  # the overrides of each, with SEED where the seed stands
    seeds: tuple[int, ...]  # in the order in which every setting gets them
    rules: "Rules"
    planned: tuple[Member, ...]  # members that are planned already

    def arguments(self, setting: int, position: int) -> tuple[str, ...]:
        """Return the overrides of the run of a setting with the seed at a position."""
        seed = f"seed={self.seeds[position]}"
        return tuple(seed if text == SEED else text for text in self.settings[setting])

    def member(self, setting: int, position: int) -> Member | None:
        """Return the planned member of a run; None where it is planned when it starts."""
        arguments = self.arguments(setting, position)
        return next((member for member in self.planned if member.arguments == arguments), None)

    def number(self, setting: int, position: int) -> int:
        """Return the number of a run's member, which does not depend on how the race went."""
        return position * len(self.settings) + setting

    def own(self, setting: int) -> tuple[str, ...]:
        """Return the overrides that not every setting has."""
        common = set.intersection(*(set(each) for each in self.settings))
        return tuple(text for text in self.settings[setting] if text not in common)


SEED = "seed="  # stands for the override of the seed


def race_of(command: Command, members: Sequence[Member]) -> Race | None:
    """Return the race of a command line; None without sweep.race.

    Raises:
        Refused: its settings cannot race.
    """
    run = members[0].experiment.run
    if not run.sweep.race:
        return None
    if not command.is_sweep:
        raise Refused(
            "sweep.race=true races the settings of a sweep: put -m before the overrides, and list values"
        )
    if command.is_optimization:
        raise Refused(
            f"sweep.race=true gives seeds to listed settings, and hydra/sweeper={command.sweeper} chooses the settings "
            "itself; leave one of the two out"
        )
    job = job_of(run, members[0].steps)
    if job is not None and not job.wait:
        raise Refused("sweep.race=true decides by the results of earlier runs, and launcher=slurm does not wait for them; "
                      "add launcher.wait=true")  # fmt: skip
    _refuse_step_seeds(members)
    settings = tuple(dict.fromkeys(_without_seed(member) for member in members))
    if len(settings) < 2:
        raise Refused("sweep.race=true compares settings, and there is one; list values: algorithm=grpo,ppo")
    seeds = tuple(dict.fromkeys(member.experiment.run.seed for member in members))
    most = run.sweep.race_seeds
    if len(seeds) > most:
        raise Refused(
            f"seed lists {len(seeds)} values, and a setting gets {most} at most; type sweep.race_seeds={len(seeds)}"
        )
    seeds += tuple(range(max(seeds) + 1, max(seeds) + 1 + most - len(seeds)))
    return Race(
        settings,
        seeds,
        _rules(len(settings), most, run.sweep.race_runs, run.sweep.race_delta),
        tuple(members),
    )


def _rules(num: int, most: int, runs: int | None, delta: float) -> "Rules":
    from r1exp.statistics.confidence_sequence import fewest_pairs
    from r1exp.statistics.racing import Rules, share_of

    first = fewest_pairs(share_of(ALPHA, num))
    if most < first:
        raise Refused(
            f"sweep.race_seeds={most}: with {num} settings nothing can be decided before {first} seeds of each; "
            f"type sweep.race_seeds={2 * first} or more"
        )
    if runs is not None and runs < num * first:
        raise Refused(
            f"sweep.race_runs={runs}: {num} settings get {first} seeds each before anything is decided, which are "
            f"{num * first} runs; type sweep.race_runs={2 * num * first} or more"
        )
    return Rules(first, most, num * most if runs is None else min(runs, num * most), delta, ALPHA)


def _without_seed(member: Member) -> tuple[str, ...]:
    own = tuple(SEED if text.lstrip("+").startswith(SEED) else text for text in member.arguments)
    return own if SEED in own else (*own, SEED)


def _refuse_step_seeds(members: Sequence[Member]) -> None:
    found = {tuple(text for text in member.arguments if _STEP_SEED.match(text)) for member in members}
    if len(found) > 1:
        text = next(text for each in found for text in each)
        raise Refused(
            f"{text}: sweep.race=true gives the seeds itself, one for all steps of a run; list no other seeds"
        )


def race_lines(race: Race) -> list[tuple[str, str]]:
    """Return what `plan` says of a race: name and text of each line."""
    from r1exp.statistics.racing import expected_runs

    rules, num = race.rules, len(race.settings)
    expected, decided = expected_runs(num, rules, _SPREAD, _LUCK)
    first = ", ".join(str(seed) for seed in race.seeds[: rules.first])
    return [
        ("race", f"{num} settings; each gets the seeds {first} first, then the leader and those that it has not beaten get the next one"),
        ("", f"ends when one setting is shown to be worse than each other by at most {100 * rules.delta:g} points (error at most "
             f"{100 * rules.alpha:g} %), or after {rules.runs} runs, {rules.most} seeds of a setting"),
        ("", f"expected: {expected:.0f} runs, and {100 * decided:.0f} % of races decided, if settings spread by {100 * _SPREAD:g} points and seeds by "
             f"{100 * _LUCK:g} (standard deviations; simulated)"),
    ]  # fmt: skip
