"""Renders the plan of a sweep as one screen: what is varied, its members, and which steps are computed only once."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from r1exp.plan.design import Design
from r1exp.plan.devices import Hardware
from r1exp.plan.durations import Duration, as_clock
from r1exp.plan.facts import Facts, facts_of
from r1exp.plan.members import BASIC, Command, Member, design_of
from r1exp.plan.power import forecast
from r1exp.plan.race import Race, race_lines, race_of
from r1exp.plan.screen import (
    HEIGHT,
    WIDTH,
    columns,
    data_and_batch,
    labelled,
    memory_line,
    memory_text,
    model_text,
    processes_text,
    rendered,
    time_line,
    typed_table,
    typed_texts,
    with_odd,
)
from r1exp.plan.side_by_side import parallel_of
from r1exp.plan.typed import TypedRow, typed_rows

_MOST_MEMBERS = 8  # rows
_MOST_CONFOUNDED = 6  # groups of effects
_LONGEST = 80  # characters of a member's overrides


def sweep_screen_of(
    command: Command,
    members: Sequence[Member],
    given: Hardware | None = None,
    *,
    width: int = WIDTH,
    colors: bool = False,
) -> str:
    """Return the screen of a sweep. Needs a `compose.session`."""
    first = members[0]
    every = [
        facts_of(member.experiment, member.steps, given, is_compared=len(members) > 1) for member in members
    ]
    race = race_of(command, members)
    facts = every[0]
    durations = _by_key(members, every)
    parallel = parallel_of(command, members)
    parts: list[RenderableType] = [
        _title(command, members, facts, durations, race),
        Text(),
        typed_table(_typed(members, typed_texts(first.experiment, given)), len(first.steps)),
        Text(),
        _steps(members, facts, durations),
        Text(),
        labelled(
            [
                *([] if race is None else race_lines(race)),
                ("others", _others(members)),
                ("members", parallel.text or None),
                ("memory", memory_line(first.steps, facts)),
                ("time", time_line(list(durations.values()))),
                *planned_facts(command, members, _MOST_CONFOUNDED),
            ]
        ),
        Text(),
    ]
    used = len(rendered(parts, width).splitlines())
    parts.append(_members(members, max(3, min(_MOST_MEMBERS, HEIGHT - used - 5))))
    odd = list(dict.fromkeys([*(text for found in every for text in found.odd), *parallel.odd]))
    return rendered(with_odd(parts, odd, width), width, colors)


def planned_facts(
    command: Command, members: Sequence[Member], most: int | None = None
) -> list[tuple[str, str | None]]:
    """Return the design of the sweep, and which differences it can see.

    Args:
        command: Of the sweep; one whose sweeper chooses values as it goes has neither.
        members: Of the sweep.
        most: Groups of confounded effects that are listed; None: all.
    """
    if command.is_optimization:
        return []
    design = design_of(command)
    race = race_of(command, members)
    expected = forecast(members, design, 1 if race is None else race.rules.first)
    lines = [expected] if isinstance(expected, str) else list(expected.lines())
    return [("design", None if design is None else _design_text(design, most)), ("power", "\n".join(lines))]


def _design_text(design: Design, most: int | None) -> str | None:
    """Return how many combinations run, and which effects they cannot tell apart; None where all run."""
    if design.kind == "full":
        return None
    resolution = "" if design.resolution is None else f", resolution {design.resolution}"
    generators = "" if design.generators is None else f", generators {design.generators}"
    text = (
        f"{design.kind}: {len(design.rows)} of {design.num_combinations} combinations{resolution}{generators}"
    )
    found = design.confounded()
    if not found:
        return f"{text}; no two effects of one or two factors are confounded"
    more = "" if most is None or len(found) <= most else f"; and {len(found) - most} more: --full"
    return f"{text}\nconfounded: {'; '.join(found[:most])}{more}"


def _by_key(members: Sequence[Member], every: Sequence[Facts]) -> dict[str, Duration | None]:
    """Return the duration of each step that is computed, by its key: equal keys are computed once."""
    return {
        step.slot: duration
        for member, facts in zip(members, every, strict=True)
        for step, duration in zip(member.steps, facts.durations, strict=True)
    }


def _title(
    command: Command,
    members: Sequence[Member],
    facts: Facts,
    durations: dict[str, Duration | None],
    race: Race | None,
) -> Text:
    first = members[0].experiment
    text = Text(first.name, style="bold")
    number = sum(len(member.steps) for member in members)
    if race is not None:
        num, rules = len(race.settings), race.rules
        what = f"a race of {num} settings, {num * rules.first} to {rules.runs} runs; below are the planned {len(members)}"
    elif command.sweeper == BASIC:
        what = f"{len(members)} run{'s' if len(members) > 1 else ''}, {number} steps, {len(durations)} of them different"
    else:
        what = f"runs whose values hydra/sweeper={command.sweeper} chooses as it goes; below is the run with the first values"
    text.append(f": {what}; {model_text(first)}; ", style="not bold")
    text.append(processes_text(members[0].steps, facts.hardware), style="not bold")
    if (
        command.sweeper == BASIC
        and race is None
        and all(duration is not None for duration in durations.values())
    ):
        seconds = sum(
            duration.seconds
            for duration in durations.values()
            if duration is not None and not duration.is_reused
        )
        text.append(f"; about {as_clock(seconds)} to run one after the other", style="not bold")
    return text


def _typed(members: Sequence[Member], texts: Sequence[str]) -> list[TypedRow]:
    """Return a row for each override; one that lists several values has one row with all of them."""
    first = members[0]
    listed = {
        text.partition("=")[0]: list(
            dict.fromkeys(_with_key(member, text.partition("=")[0]) for member in members)
        )
        for text in texts
    }
    rows = typed_rows(first.experiment, first.steps, texts)
    return [_joined(row, listed[row.text.partition("=")[0]]) for row in rows]


def _with_key(member: Member, key: str) -> str:
    return next((text for text in member.arguments if text.partition("=")[0] == key), "")


def _joined(row: TypedRow, texts: Sequence[str]) -> TypedRow:
    if len(texts) < 2:
        return row
    key = texts[0].partition("=")[0]
    return TypedRow(f"{key}={','.join(text.partition('=')[2] for text in texts)}", row.targets, row.was)


def _steps(members: Sequence[Member], facts: Facts, durations: dict[str, Duration | None]) -> RenderableType:
    first = members[0]
    table = columns(
        "#",
        "step",
        "optimizer steps",
        "batch",
        "memory",
        "computed",
        "time each",
        right=("#", "optimizer steps"),
    )
    for step, need in zip(first.steps, facts.needs, strict=True):
        keys = [other.slot for member in members for other in member.steps if other.name == step.name]
        name = Text(step.name, style="bold" if step.name == first.experiment.focus else "")
        known = [found for key in dict.fromkeys(keys) if (found := durations[key]) is not None]
        table.add_row(
            str(step.index),
            name,
            "" if step.batch is None else f"{step.batch.num_steps:,}",
            data_and_batch(step)[1].partition("\n")[0],
            memory_text(step, need, facts.hardware),
            _computed(keys, len(members), sum(duration.is_reused for duration in known)),
            as_clock(max(duration.seconds for duration in known)) if known else Text("?", style="dim"),
        )
    return table


def _others(members: Sequence[Member]) -> str | None:
    """Return the steps that the first member does not have; None if there are none."""
    own = {step.name for step in members[0].steps}
    names = dict.fromkeys(step.name for member in members for step in member.steps if step.name not in own)
    return f"some runs have other steps: {', '.join(names)}" if names else None


def _computed(keys: Sequence[str], num_members: int, num_reused: int) -> Text:
    """Return how often a step is computed, of how many members that need it."""
    different = len(set(keys))
    if different == 1 and len(keys) > 1:
        text = Text(
            "once for all" if len(keys) == num_members else f"once for {len(keys)} runs", style="green"
        )
    else:
        text = Text(
            f"{different} time{'s' if different > 1 else ''}"
            + ("" if different == len(keys) else f" for {len(keys)} runs")
        )
    if num_reused:
        text.append(f" ({num_reused} already there)", style="green")
    return text


def _members(members: Sequence[Member], most: int) -> RenderableType:
    common = set.intersection(*(set(member.arguments) for member in members)) if len(members) > 1 else set()
    table = columns("run", "what differs", right=("run",))
    shown = members if len(members) <= most else members[: most - 1]
    for number, member in enumerate(shown):
        text = " ".join(text for text in member.arguments if text not in common)
        table.add_row(str(number), text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
    if len(shown) < len(members):
        table.add_row("", f"and {len(members) - len(shown)} more: --full")
    return table
