"""Says which differences a sweep can see, before it runs: `r1exp plan -m`, and `<sweep>/power.json`.

The comparison is the one of the report: each setting against the first row, over the seeds that all settings share, on the same
problems, with Holm's correction. Formulas: r1exp/statistics/power.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from r1exp.config.experiment import Experiment
from r1exp.config.sweep import PowerSettings
from r1exp.plan.design import Design, is_seed
from r1exp.plan.earlier_runs import earlier_runs
from r1exp.plan.members import Member
from r1exp.plan.steps import PlannedStep
from r1exp.statistics.components import Estimate, estimated
from r1exp.statistics.power import (
    MOST_SEEDS,
    Components,
    Needed,
    Size,
    detectable,
    needed,
)

POWER = 0.8
_MORE_ANSWERS = 8  # answers to a problem with which the number of seeds is counted once more


@dataclass(frozen=True)
class Forecast:
    """Which differences a sweep can see."""

    size: Size
    estimate: Estimate
    priors: PowerSettings
    used: tuple[str, ...]  # earlier runs
    smallest: float  # difference between two settings; with one seed between two models
    smallest_effect: (
        float | None
    )  # of one of two values of a factor over a whole design; None: there is no such factor
    needed: Needed
    seeds_with_more_answers: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the content of power.json; differences and standard deviations are proportions."""
        components = self.estimate.components
        return {
            "power": POWER,
            "size": asdict(self.size),
            "smallest_difference": self.smallest,
            "smallest_main_effect": self.smallest_effect,
            "compares": "settings" if self.size.seeds > 1 else "models",
            "target": self.priors.target / 100.0,
            "needed_for_target": asdict(self.needed),
            "standard_deviations": {
                name: sqrt(value) for name, value in asdict(components).items() if name != "accuracy"
            },
            "accuracy": components.accuracy,
            "from_runs": list(self.used),
            "num_settings": self.estimate.settings,
            "seed_degrees": self.estimate.seed_degrees,
            "priors": self.priors.model_dump(),
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines of the screen."""
        size = self.size
        between = "two settings" if size.seeds > 1 else "two models"
        seen = (
            f"a difference of {100 * self.smallest:.1f} points" if self.smallest <= 1.0 else "no difference"
        )
        effect = ""
        if self.smallest_effect is not None and self.smallest_effect <= 1.0:
            effect = f"; main effects of {100 * self.smallest_effect:.1f} points"
        yield f"{100 * POWER:.0f} %: {seen} between {between} is seen ({_described(size)}){effect}"
        if size.seeds == 1:
            yield "one seed compares models, not settings: another seed may rank them otherwise; type seed=1,2,3"
        yield f"to see {self.priors.target:g} points: {self._what_is_needed()}"
        yield self._source()

    def _what_is_needed(self) -> str:
        size, found, more = self.size, self.needed, self.seeds_with_more_answers
        if size.seeds > 1 and self.smallest <= self.priors.target / 100.0:
            return "this is enough"
        ways = [f"{found.seeds} seeds" if found.seeds else f"more than {MOST_SEEDS} seeds"]
        if more and more != found.seeds:
            ways.append(f"{more} seeds with evaluation.samples={_MORE_ANSWERS}")
        if size.seeds == 1:
            return ", or ".join(ways)
        ways += [f"{found.problems:,} problems"] if found.problems else []
        ways += [f"{found.samples} answers each"] if found.samples else []
        lacking = [] if found.problems else ["problems"]
        lacking += [] if found.samples else ["answers"]
        tail = f"; more {' or '.join(lacking)} alone are not enough" if lacking else ""
        return ", or ".join(ways) + tail

    def _source(self) -> str:
        estimate, priors = self.estimate, self.priors
        problems = f"settings on a problem by {priors.problem_sd:g} points"
        if not estimate.runs:
            return (
                f"assumed (sweep.power), no finished run has this model, data and evaluation: seeds differ by {priors.seed_sd:g} "
                f"points, {problems}, accuracy {priors.accuracy:g}, agreement {priors.agreement:g}"
            )
        first = self.used[0] + (f" and {len(self.used) - 1} more" if len(self.used) > 1 else "")
        sd = 100 * sqrt(estimate.components.seed / 2.0)
        assumed = "" if estimate.pairs else f"; assumed (sweep.power): {problems}"
        return (
            f"from {estimate.runs} runs of {estimate.settings} settings ({first}): seeds differ by {sd:.1f} points "
            f"({estimate.seed_degrees} degrees of freedom){assumed}"
        )


def _described(size: Size) -> str:
    seeds = f"{size.seeds} seed{'s' if size.seeds > 1 else ''}"
    answers = f"{size.samples} answer{'s' if size.samples > 1 else ''} each"
    comparisons = f", {size.comparisons} comparisons" if size.comparisons > 1 else ""
    return f"{seeds}, {size.problems:,} problems, {answers}{comparisons}"


def forecast(members: Sequence[Member], design: Design | None = None, least_seeds: int = 1) -> Forecast | str:
    """Return which differences a sweep can see, or why that is not known.

    Args:
        members: Of the sweep.
        design: The design that chose them.
        least_seeds: Seeds that every setting gets, where that is more than the members that are planned have: a race's first ones.
    """
    first = members[0]
    seeds = _shared_seeds(members)
    num_settings = len(seeds)
    if num_settings < 2:
        return "the runs differ in nothing but seeds: no settings are compared"
    evaluation = _evaluation(first)
    if evaluation is None:
        return "no evaluation with kept answers measures the model of the focus step"
    suite = evaluation.config.evaluation.resolved(evaluation.config.dataset, evaluation.config.prompt)[0]
    count = suite.dataset.count("test")
    numbers = [number for number in (suite.num_problems, count) if number is not None]
    if not numbers or min(numbers) < 2:
        return (
            "the number of problems is not known before the data are here; type evaluation.num_problems=500"
        )
    shared = set.intersection(*seeds.values())
    if not shared:
        return "no seed is common to all settings, so that the report compares none"
    size = Size(max(len(shared), least_seeds), min(numbers), max(suite.samples, 1), num_settings - 1)
    priors = first.experiment.run.sweep.power
    focus = _focus(first.experiment, first.steps)
    known = earlier_runs(Path(first.experiment.run.paths.runs), focus, evaluation)
    estimate = estimated(known.tables, prior_components(priors))
    components = estimate.components
    more = Size(size.seeds, size.problems, _MORE_ANSWERS, size.comparisons)
    target = priors.target / 100.0
    return Forecast(
        size=size,
        estimate=estimate,
        priors=priors,
        used=known.runs,
        smallest=detectable(components, size, POWER),
        smallest_effect=_smallest_effect(components, size, design),
        needed=needed(target, components, size, POWER),
        seeds_with_more_answers=needed(target, components, more, POWER).seeds
        if size.samples < _MORE_ANSWERS and suite.samples
        else None,
    )


def prior_components(priors: PowerSettings) -> Components:
    """Return the components of a difference between two settings that the priors of the settings mean."""
    return Components(
        seed=2.0 * (priors.seed_sd / 100.0) ** 2,
        problem=2.0 * (priors.problem_sd / 100.0) ** 2,
        rest=0.0,
        sampling=2.0 * priors.accuracy * (1.0 - priors.accuracy) * (1.0 - priors.agreement),
        accuracy=priors.accuracy,
    )


def _smallest_effect(components: Components, size: Size, design: Design | None) -> float | None:
    """Return the main effect that is seen: the mean of half of the settings less that of the others, which are so many pairs of runs."""
    if design is None or any(len(factor.texts) != 2 for factor in design.factors) or size.seeds < 2:
        return None
    pairs = size.seeds * len(design.rows) // 2
    return detectable(components, Size(pairs, size.problems, size.samples, len(design.factors)), POWER)


def _shared_seeds(members: Sequence[Member]) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Return the seeds of each setting: setting -> its overrides that set seeds."""
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for member in members:
        typed = {override.text: override for override in member.experiment.overrides}
        seeds = tuple(text for text in member.arguments if text in typed and is_seed(typed[text]))
        own = tuple(text for text in member.arguments if text not in seeds)
        found.setdefault(own, set()).add(seeds)
    return found


def _focus(experiment: Experiment, steps: Sequence[PlannedStep]) -> PlannedStep:
    return next(step for step in steps if step.name == experiment.focus)


def _evaluation(member: Member) -> PlannedStep | None:
    """Return the evaluation whose accuracy is the objective of the run; None without any, or where a harness alone evaluates."""
    focus = _focus(member.experiment, member.steps)
    assert focus.config.stage is not None
    model = focus.model_from if focus.config.stage.makes == "scores" else focus.name
    for step in reversed(member.steps):
        assert step.config.stage is not None
        if step.config.stage.makes == "scores" and step.model_from == model:
            config = step.config
            return step if config.evaluation.resolved(config.dataset, config.prompt) else None
    return None
