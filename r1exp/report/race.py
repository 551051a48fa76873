"""Reports a race: which setting got which seeds, the bounds, and when each setting was dropped and why; from its `race.json`. Torch-free."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1exp.files import read_json_object
from r1exp.paths import SweepPaths
from r1exp.report.numbers import Cell, Code, Table, number_at

Json = dict[str, Any]
_NOTE = (
    "Behind: the leader's mean less the setting's, over the seeds of both. At least: a lower bound of that difference which holds at every number of seeds "
    "together (t-based confidence sequence on paired differences, Bonferroni over the settings); a setting is dropped once it is above -delta."
)


def race_of(sweep: Path) -> Json:
    """Return the content of a sweep's race.json; empty where it is no race."""
    return read_json_object(SweepPaths(sweep).race)


def label_of(setting: Mapping[str, Any]) -> str:
    """Return what distinguishes a setting from the others."""
    return " ".join(setting["overrides"]) or "defaults"


def points_of(share: float) -> str:
    """Return a difference of accuracies in percentage points."""
    return f"{100 * share:g} point{'' if share == 0.01 else 's'}"


def verdict_of(race: Mapping[str, Any]) -> str:
    """Return the result of a race as a sentence."""
    settings, rules = race["settings"], race["rules"]
    runs = f"{race['num_runs']} runs"
    delta = points_of(rules["delta"])
    ahead = next((each for each in settings if each["state"] in ("best", "leader")), None)
    left = sum(each["state"] == "left" for each in settings)
    others = f"; {left} of {len(settings)} settings left the race without a result" if left else ""
    if ahead is None or not any(each["runs"] for each in settings):
        waits = f"nothing is decided before each setting has its first {rules['first_seeds']} seeds"
        return f"no setting has a result{others}" if race["state"] != "racing" else waits
    name, mean = (
        label_of(ahead),
        f"mean {100 * ahead['mean']:.1f} %" if ahead["mean"] is not None else "no mean",
    )
    if left == len(settings) - 1:
        return f"{name} ({mean}) is the only setting with a result after {runs}{others}"
    if race["state"] == "decided":
        rest = "each other setting that finished its runs" if left else "each other setting"
        return (
            f"{name} ({mean}) is the best after {runs}: it is at most {delta} worse than {rest} "
            f"(error at most {100 * rules['alpha']:g} %){others}"
        )
    still = [label_of(each) for each in settings if each["state"] == "open"]
    state = "the race goes on" if race["state"] == "racing" else "undecided, the budget is spent"
    return f"{state} after {runs}: {name} leads ({mean}), not yet shown to be as good as {', '.join(still)}{others}"


def race_lines(sweep: Path) -> list[str]:
    """Return the section of the report of a sweep as Markdown lines; none where it is no race."""
    race = race_of(sweep)
    if not race:
        return []
    lines = ["", "## Race"]
    for table in race_tables({"race": race}):
        lines += ["", "| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
        lines += ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in table.rows]
        lines += ["", table.note] if table.note else []
    return lines


def race_status(sweep: Path) -> str:
    """Return the lines of a race for `r1exp sweep status`; empty where it is no race."""
    race = race_of(sweep)
    if not race:
        return ""
    lines = [f"race, round {len(race['rounds'])}: {race['verdict']}"]
    lines += [
        f"  {label_of(each)}: {_why(each)}"
        for each in race["settings"]
        if each["state"] in ("dropped", "left")
    ]
    return "\n".join(lines) + "\n"


def race_tables(numbers: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a race.

    Args:
        numbers: With the content of race.json as `race`; empty or missing where there was none.
    """
    race = numbers.get("race")
    if not race:
        return []
    rows: list[tuple[Cell, ...]] = []
    order = sorted(range(len(race["settings"])), key=lambda at: _rank(race["settings"][at]))
    for index in order:
        setting, path = race["settings"][index], ("race", "settings", str(index))
        rows.append((
            Code(label_of(setting)), _seeds(setting["seeds"]), number_at(numbers, (*path, "mean"), "percent") or "",
            number_at(numbers, (*path, "difference"), "points") or "", number_at(numbers, (*path, "bound"), "points") or "",
            setting["state"], _why(setting),
        ))  # fmt: skip
    columns = ("setting", "seeds", "mean, %", "behind, points", "at least", "state", "why")
    names = [label_of(setting) for setting in race["settings"]]
    return [
        Table("race", "The race", columns, tuple(rows), f"Result: {race['verdict']}. {_NOTE}"),
        Table("race_rounds", "Rounds of the race", ("round", "leader", "seeds given", "no further seeds", "again"),
              tuple(_round(number, each, names) for number, each in enumerate(race["rounds"], start=1))),
    ]  # fmt: skip


def _rank(setting: Mapping[str, Any]) -> tuple[int, float]:
    order = {"best": 0, "leader": 0, "open": 1, "dropped": 2, "left": 3}
    return order[setting["state"]], -(setting["mean"] or 0.0)


def _round(number: int, found: Mapping[str, Any], names: Sequence[str]) -> tuple[Cell, ...]:
    given = "; ".join(f"{names[int(setting)]}: {_seeds(seeds)}" for setting, seeds in found["given"].items())
    leader = "" if found["leader"] is None else names[found["leader"]]
    listed = [", ".join(names[setting] for setting in found[key]) for key in ("newly_dropped", "again")]
    return (str(number), leader, given, *listed)


def _seeds(seeds: Sequence[int]) -> str:
    """Return seeds as text, those in a row as a range."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _why(setting: Mapping[str, Any]) -> str:
    if setting["state"] == "dropped":
        return (
            f"{setting['why']}: {100 * setting['difference']:+.1f} points behind the leader over {setting['pairs']} seeds, "
            f"at least {100 * setting['bound']:+.1f}"
        )
    return str(setting.get("why", ""))


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell.text
