"""Runs a race of settings: gives seeds to the leader and to those that it has not beaten, until the best one is known.

What is run next follows from the objectives of the finished runs alone (r1exp/statistics/racing.py), and the number of a member from its
setting and seed. The same command with the same hydra.sweep.dir therefore goes on where it was interrupted or killed: members that are
done are read, and the race takes the same decisions. A setting with a run that ended without an objective leaves the race, because
its mean is not known; `race.json` has every seed, bound and decision.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1exp.errors import Interrupted
from r1exp.files import write_json
from r1exp.paths import SweepPaths
from r1exp.plan.race import Race
from r1exp.report.race import verdict_of
from r1exp.report.sweep import why_without_objective
from r1exp.runner.members import MemberRuns, Task
from r1exp.statistics.racing import Decision, decide, pairs_of, share_of
from r1exp.terminal import say

Json = dict[str, Any]
_LEAST_SPREAD = 0.5  # problems: differences of a few pairs are equal by coincidence, as accuracies are whole numbers of problems


@dataclass
class Standing:
    """What a race knows: the objectives of each setting in the order of its seeds, and the settings that left it."""

    race: Race
    objectives: list[list[float]]
    left: dict[int, str] = field(default_factory=dict)  # setting -> why it left the race
    num_problems: int = 0  # the most that an objective was measured on
    rounds: list[Json] = field(default_factory=list)
    dropped: dict[int, Json] = field(default_factory=dict)  # setting -> difference, bound, pairs and why

    def next(self) -> tuple[Decision, list[tuple[int, int]]]:
        """Decide, log the decision, and return it with the runs that follow: setting and position of the seed."""
        rules = self.race.rules
        alive = [setting for setting in range(len(self.objectives)) if setting not in self.left]
        counts = [len(self.objectives[setting]) for setting in alive]
        if not self.rounds:  # nothing is decided before every setting has its first seeds
            runs = [(setting, position) for position in range(rules.first) for setting in alive]
            return self._logged(Decision("racing", alive[0], tuple(alive[1:]), tuple(alive)), runs)
        if not alive:
            return self._logged(Decision("spent", -1, (), ()), [])
        means, bounds = self._paired(alive).at(counts)
        found = decide(means, bounds, counts, rules)
        self._drop(alive, found, means, bounds, counts)
        decision = Decision(
            found.state, alive[found.leader], tuple(alive[i] for i in found.open), tuple(alive[i] for i in found.following)
        )  # fmt: skip
        return self._logged(
            decision, [(setting, len(self.objectives[setting])) for setting in decision.following]
        )

    def _paired(self, alive: list[int]) -> Any:
        longest = max(len(self.objectives[setting]) for setting in alive)
        scores = [
            self.objectives[setting] + [math.nan] * (longest - len(self.objectives[setting]))
            for setting in alive
        ]
        share = share_of(self.race.rules.alpha, len(self.race.settings))
        return pairs_of(scores, share, _LEAST_SPREAD / self.num_problems if self.num_problems else 0.0)

    def _drop(self, alive: list[int], found: Decision, means: Any, bounds: Any, counts: list[int]) -> None:
        """Note which settings the leader has beaten."""
        self.dropped = {
            alive[i]: {
                "difference": float(means[found.leader, i]),
                "bound": float(bounds[found.leader, i]),
                "pairs": min(counts[found.leader], counts[i]),
                "why": "worse" if bounds[found.leader, i] > 0 else "not better by more than delta",
            }
            for i in range(len(alive))
            if i != found.leader and i not in found.open
        }

    def _logged(
        self, decision: Decision, runs: list[tuple[int, int]]
    ) -> tuple[Decision, list[tuple[int, int]]]:
        before = set(self.rounds[-1]["dropped"]) | set(self.rounds[-1]["left"]) if self.rounds else set()
        self.rounds.append({
            "leader": decision.leader if decision.leader >= 0 and any(self.objectives) else None,
            "given": {str(setting): [self.race.seeds[at] for each, at in runs if each == setting]
                      for setting in dict.fromkeys(setting for setting, _ in runs)},
            "dropped": sorted(self.dropped), "left": sorted(self.left),
            "newly_dropped": sorted(({*self.dropped} | {*self.left}) - before),
            "again": sorted(before - {*self.dropped} - {*self.left} - {decision.leader}),
        })  # fmt: skip
        return decision, runs

    def record(self, decision: Decision) -> Json:
        """Return the content of race.json."""
        rules = self.race.rules
        settings = [self._setting(number, decision) for number in range(len(self.objectives))]
        content = {
            "state": decision.state,
            "rules": {"delta": rules.delta, "alpha": rules.alpha, "first_seeds": rules.first, "most_seeds": rules.most,
                      "most_runs": rules.runs},
            "num_runs": sum(len(each) for each in self.objectives),
            "settings": settings,
            "rounds": self.rounds,
        }  # fmt: skip
        return content | {"verdict": verdict_of(content)}

    def _setting(self, number: int, decision: Decision) -> Json:
        objectives = self.objectives[number]
        race = self.race
        state = "open"
        if number in self.left:
            state = "left"
        elif number == decision.leader and any(self.objectives):
            state = "best" if decision.state == "decided" else "leader"
        elif number in self.dropped:
            state = "dropped"
        return {
            "overrides": [text for text in race.own(number) if text != "seed="],
            "state": state,
            "seeds": list(race.seeds[: len(objectives)]),
            "runs": [str(race.number(number, position)) for position in range(len(objectives))],
            "objectives": objectives,
            "mean": sum(objectives) / len(objectives) if objectives else None,
            **(self.dropped.get(number, {}) if state == "dropped" else {}),
            **({"why": self.left[number]} if state == "left" else {}),
        }


def run_race(race: Race, members: MemberRuns) -> None:
    """Run a race to its end.

    Raises:
        Interrupted: a member was interrupted; what has been decided is kept.
    """
    standing = Standing(race, [[] for _ in race.settings])
    path = SweepPaths(members.folder).race
    decision, runs = standing.next()
    while True:
        write_json(path, standing.record(decision))
        _say(standing, decision)
        if not runs:
            return
        tasks = {(setting, position): _task(race, setting, position) for setting, position in runs}
        goes_on = members.run(list(tasks.values()))
        for (setting, position), task in tasks.items():
            _collect(standing, setting, position, members.row(task.number))
        if not goes_on:
            raise Interrupted(
                f"interrupted; the race goes on from here with the same command and hydra.sweep.dir={members.folder}"
            )
        decision, runs = standing.next()


def _task(race: Race, setting: int, position: int) -> Task:
    arguments = race.arguments(setting, position)
    own = (*(text for text in race.own(setting) if text != "seed="), f"seed={race.seeds[position]}")
    return Task(race.number(setting, position), arguments, race.member(setting, position), own)


def _collect(standing: Standing, setting: int, position: int, row: Mapping[str, Any] | None) -> None:
    """Take the objective of a member that ended; without one, the setting leaves the race."""
    objective = None if row is None or row.get("state") != "done" else row.get("objective")
    if setting in standing.left:
        return
    if row is None or objective is None:
        reason = "did not start" if row is None else why_without_objective(dict(row))
        standing.left[setting] = f"run {standing.race.number(setting, position)}: {reason}"
        return
    label, _, mode = str(row.get("objective_of", "")).partition(" ")
    measured = row.get(f"{label}_accuracy", {}).get(mode, {})
    standing.num_problems = max(standing.num_problems, int(measured.get("n", 0)))
    standing.objectives[setting].append(float(objective))


def _say(standing: Standing, decision: Decision) -> None:
    names = [
        " ".join(text for text in standing.race.own(number) if text != "seed=")
        for number in range(len(standing.objectives))
    ]
    if decision.state != "racing":
        say(f"race: {standing.record(decision)['verdict']}")
        return
    last = standing.rounds[-1]
    gone = [names[number] for number in last["newly_dropped"]]
    given = [
        f"{names[int(number)]} ({', '.join(map(str, seeds))})" for number, seeds in last["given"].items()
    ]
    parts = [f"round {len(standing.rounds)}"]
    if last["leader"] is not None:
        parts.append(f"leader {names[last['leader']]}")
    if gone:
        parts.append(f"no further seeds for {', '.join(gone)}")
    say(f"race: {'; '.join([*parts, 'next seeds: ' + ', '.join(given)])}")
