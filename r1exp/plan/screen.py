"""Renders a plan as one screen of 120 x 40: what a person checks before spending hours.

What runs on what, what was typed and where it goes, batches, memory against the device, time, the first prompt, and what
is odd. The rest is in `r1exp.plan.full`.
"""

import math
from collections.abc import Iterator, Sequence
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from r1exp.config.experiment import Experiment
from r1exp.launcher.base import available_cores
from r1exp.model.memory import readable
from r1exp.model.preview import first_prompt
from r1exp.model.shapes import count_lora, count_parameters, shape_of
from r1exp.plan.batch import RlBatch
from r1exp.plan.devices import Hardware
from r1exp.plan.durations import Duration, as_clock, total_seconds
from r1exp.plan.facts import Facts, facts_of
from r1exp.plan.memory_report import Need
from r1exp.plan.oddities import uses_device
from r1exp.plan.steps import PlannedStep
from r1exp.plan.typed import NOTHING, TypedRow, typed_rows
from r1exp.prompt.chat import messages

WIDTH, HEIGHT = 120, 38  # characters and lines: one line for the command above, one for what is typed next
_MOST_LISTED = 14  # steps and overrides together
_LEAST_TYPED = 5  # overrides that are listed in any case
_LONGEST_OVERRIDE = 52  # characters
_LONGEST_PROMPT = 280  # characters
_MOST_REASONS = 3  # steps of which the screen says why they run
_LABEL = 9  # characters of the words on the left


def screen_of(
    experiment: Experiment,
    steps: Sequence[PlannedStep],
    given: Hardware | None = None,
    *,
    width: int = WIDTH,
    colors: bool = False,
) -> str:
    """Return the screen of one run. Needs a `compose.session`."""
    facts = facts_of(experiment, steps, given)
    typed = typed_rows(experiment, steps, typed_texts(experiment, given))
    table = _steps(steps, facts, experiment.focus)
    below = [
        *_about(steps, facts),
        ("rewards", _rewards(steps)),
        ("prompt", _prompt(steps, experiment.focus)),
    ]
    parts = [_title(experiment, steps, facts), *_typed(typed, len(steps)), table, Text(), labelled(below)]
    return rendered(with_odd(parts, facts.odd, width), width, colors)


def typed_texts(experiment: Experiment, given: Hardware | None) -> list[str]:
    """Return the overrides that were typed, without the one that `device=` stands for."""
    implied = None if given is None else f"launcher.device={given.device}"
    return [text for text in experiment.arguments if text != implied]


def with_odd(parts: Sequence[RenderableType], odd: Sequence[str], width: int) -> list[RenderableType]:
    """Return the parts with the last two lines: what is odd, as much as there is room for, and what else can be typed."""
    used = len(rendered(parts, width).splitlines()) + 1
    shown = list(odd)
    while True:
        left = len(odd) - len(shown)
        lines = [*shown, *([f"and {left} more: --full"] if left else [])]
        last = labelled([("odd", Text("\n".join(lines) or "nothing", style="yellow" if odd else "green"))])
        if not shown or used + len(rendered([last], width).splitlines()) <= HEIGHT:
            break
        shown.pop()
    more = labelled(
        [
            (
                "more",
                "--full every value and its origin   --launch commands and files   --yaml a file to run again",
            )
        ]
    )
    return [*parts, last, more]


def rendered(parts: Sequence[RenderableType], width: int = WIDTH, colors: bool = False) -> str:
    """Return renderables as text, without spaces at the end of lines."""
    file = StringIO()
    console = Console(
        file=file,
        width=min(width, WIDTH),
        force_terminal=colors,
        color_system="standard" if colors else None,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(Group(*parts))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def columns(*titles: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table without lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def labelled(rows: Sequence[tuple[str, RenderableType | None]]) -> Table:
    """Return rows with a word on the left; rows without content are left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(width=_LABEL, style="dim")
    table.add_column(overflow="fold", ratio=1)
    for label, content in rows:
        if content is not None:
            table.add_row(label, content)
    return table


def _title(experiment: Experiment, steps: Sequence[PlannedStep], facts: Facts) -> Text:
    names = [step.name for step in experiment.steps]
    seconds = total_seconds(durations_of_running(steps, facts.durations))
    text = Text(experiment.name, style="bold")
    text.append(
        f": {model_text(experiment)} on {_dataset(experiment)}; {', then '.join(names)}; ", style="not bold"
    )
    text.append(f"{processes_text(steps, facts.hardware)}; ", style="not bold")
    text.append(f"{len(steps)} step{'s' if len(steps) > 1 else ''}", style="not bold")
    if seconds is not None:
        text.append(f", about {as_clock(seconds)} to run", style="not bold")
    return text


def model_text(experiment: Experiment) -> str:
    """Return the name of the run's model and its number of parameters."""
    model = experiment.run.model
    name = str(experiment.composition.choices.get("model") or model.kind)
    if model.path is not None and any(override.key == "model.path" for override in experiment.overrides):
        name = model.path
    shape = shape_of(model)
    if shape is None:
        return name
    size = _short(count_parameters(shape))
    return (
        f"{name} ({size}{f', LoRA trains {_short(count_lora(shape, model.lora))}' if model.lora.r else ''})"
    )


def _short(number: int) -> str:
    return f"{number / 1e9:.1f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _dataset(experiment: Experiment) -> str:
    chosen = experiment.composition.choices.get("dataset")
    return str(chosen or experiment.run.dataset.kind)


def processes_text(steps: Sequence[PlannedStep], hardware: Hardware) -> str:
    """Return how many processes run, started by what, on what."""
    launcher = max((step.config.launcher for step in steps), key=lambda launcher: launcher.num_processes)
    number = launcher.num_processes
    several = f"{number} processes" if number > 1 else "1 process"
    nodes = f" on {launcher.num_nodes} nodes" if launcher.num_nodes > 1 else ""
    where = f"{hardware.number} x {hardware.name}" if hardware.number else hardware.name
    cores = f" ({available_cores()} cores)" if hardware.device == "cpu" and not hardware.is_given else ""
    return f"{several}{nodes} ({launcher.kind}) on {where}{cores}"


def _typed(rows: Sequence[TypedRow], num_steps: int) -> Iterator[RenderableType]:
    yield Text()
    if rows:
        yield typed_table(rows, num_steps)
        yield Text()


def typed_table(rows: Sequence[TypedRow], num_steps: int) -> Table:
    """Return a table of overrides, the steps they apply to, and what applied before."""
    table = columns("you typed", "applies to", "was")
    most = max(_LEAST_TYPED, _MOST_LISTED - num_steps)
    for row in rows[:most]:
        text = row.text if len(row.text) <= _LONGEST_OVERRIDE else f"{row.text[: _LONGEST_OVERRIDE - 1]}…"
        was = row.was if len(row.was) <= 30 else f"{row.was[:29]}…"
        table.add_row(Text(text, style="cyan"), _targets(row, num_steps), was)
    if len(rows) > most:
        table.add_row(f"and {len(rows) - most} more: --full", "", "")
    return table


def _targets(row: TypedRow, num_steps: int) -> str:
    if not row.targets:
        return "the run as a whole"
    if len(row.targets) == num_steps and num_steps > 1:
        return "every step"
    named = ", ".join(row.targets)
    return named if len(named) <= 40 else f"{', '.join(row.targets[:2])} and {len(row.targets) - 2} more"


def _steps(steps: Sequence[PlannedStep], facts: Facts, focus: str) -> Table:
    table = columns(
        "#", "step", "optimizer steps", "data", "batch", "memory", "time", right=("#", "optimizer steps")
    )
    for step, need, duration in zip(steps, facts.needs, facts.durations, strict=True):
        name = Text(step.name, style="bold" if step.name == focus else "")
        if step.name == focus and len(steps) > 1:
            name.append(" (focus)", style="not bold")
        number = "" if step.batch is None else f"{step.batch.num_steps:,}"
        data, batch = data_and_batch(step)
        table.add_row(
            str(step.index),
            name,
            number,
            data,
            batch,
            memory_text(step, need, facts.hardware),
            _time(duration, step),
        )
    return table


def data_and_batch(step: PlannedStep) -> tuple[str, str]:
    """Return what a step reads, and how much of it at once."""
    config = step.config
    assert config.stage is not None
    source = step.composed.data_from
    if step.batch is None:
        data, _, how = config.stage.describe(config, step.num_problems).partition(", ")
        return data, how
    unit = config.rows.unit if config.online is None else "problems"
    if step.num_problems is not None:
        data = f"{step.num_problems:,} {unit}"
    else:
        data = f"{unit} of step {source}" if source else f"{unit}, not here yet"
    sizes = step.batch
    if isinstance(sizes, RlBatch):
        prompts = "prompt" if sizes.prompts_per_step == 1 else "prompts"
        batch = f"{sizes.prompts_per_step} {prompts} x {sizes.num_generations} = {sizes.rows_per_step}"
    else:
        batch = f"{sizes.rows_per_step} {unit}"
    if sizes.world_size > 1 or sizes.accumulation > 1:
        ranks = f"{sizes.world_size} ranks x " if sizes.world_size > 1 else ""
        times = f" x {sizes.accumulation} passes" if sizes.accumulation > 1 else ""
        batch += f"\n({ranks}{sizes.rows_per_device}{times})"
    return data, batch


def memory_text(step: PlannedStep, need: Need | None, hardware: Hardware) -> Text:
    """Return the memory of a step as text; red where it does not fit the device."""
    if not uses_device(step):
        return Text(NOTHING)
    if need is None:
        return Text("not known")
    if need.total is None:
        return Text(f"{readable(need.parts.total)} + vLLM")
    ranks = step.config.launcher.num_processes if step.device == "cpu" else 1
    text = readable(need.total * ranks) + (" ~" if need.assumed_tokens is not None else "")
    if hardware.memory is None:
        return Text(text)
    share = need.total * ranks / hardware.memory
    style = "bold red" if share > 1 else "yellow" if share > 0.9 else ""
    return Text(f"{text} ({100 * share:.0f} %)" if share >= 0.01 else text, style=style)


def _time(duration: Duration | None, step: PlannedStep) -> Text:
    if not step.runs and (duration is None or not duration.is_reused):
        return Text("left out", style="dim")
    if duration is None:
        return Text("?", style="dim")
    if duration.is_reused:
        return Text(f"reused ({as_clock(duration.seconds)})", style="green")
    return Text(f"{'~' if duration.is_scaled else ''}{as_clock(duration.seconds)}")


def _about(steps: Sequence[PlannedStep], facts: Facts) -> Iterator[tuple[str, RenderableType | None]]:
    yield "memory", memory_line(steps, facts)
    yield "time", time_line(durations_of_running(steps, facts.durations))
    yield "runs", _reasons(facts)
    yield "evaluated", during_training(steps)


def durations_of_running(
    steps: Sequence[PlannedStep], durations: Sequence[Duration | None]
) -> list[Duration | None]:
    """Return the durations without those of steps that are left out."""
    pairs = zip(steps, durations, strict=True)
    return [found for step, found in pairs if step.runs or (found is not None and found.is_reused)]


def _reasons(facts: Facts) -> str | None:
    """Return why steps run although one of their name is finished; None if there is no such step."""
    lines = [f"{reason.step}: {reason.text}" for reason in facts.reasons[:_MOST_REASONS]]
    left = len(facts.reasons) - len(lines)
    return "\n".join(lines + ([f"and {left} more: --full"] if left else [])) or None


def during_training(steps: Sequence[PlannedStep]) -> str | None:
    """Return what the evaluations during training cost; None without any."""
    lines = []
    for step in steps:
        if step.batch is None or not step.config.validates:
            continue
        evaluation, stage = step.config.evaluation, step.config.stage
        assert stage is not None
        times, problems = (
            len(evaluation.evaluated_at(step.batch.num_steps)),
            stage.num_validation(step.config),
        )
        each = evaluation.samples + int(evaluation.greedy)
        total = f"{times * problems * each:,} completions"
        if isinstance(step.batch, RlBatch):
            batches = math.ceil(step.batch.num_steps / step.batch.updates_per_batch)
            total += f" (training: {batches * step.batch.completions_per_generation:,})"
        keeps = (
            ""
            if evaluation.keep_best is None
            else f"; keeps the model with the best {evaluation.keep_best} accuracy"
        )
        lines.append(
            f"{step.name} during training, {times} x on {problems} validation problems x {each} = {total}{keeps}"
        )
    return "\n".join(lines) or None


def memory_line(steps: Sequence[PlannedStep], facts: Facts) -> str:
    """Return what the column with the memory means."""
    hardware = facts.hardware
    per = "of all ranks together" if hardware.device == "cpu" else "per device"
    if hardware.memory is None:
        own = f"{hardware.name}: type device=h100, for example, to compare"
    else:
        own = f"{hardware.name} has {readable(hardware.memory)} ({hardware.memory / 2**30:.1f} GiB)"
    text = f"{per} at the peak, estimated; {own}"
    assumed = [
        need.assumed_tokens
        for step, need in zip(steps, facts.needs, strict=True)
        if need is not None and need.assumed_tokens is not None and uses_device(step)
    ]
    return text + (
        f"; ~: prompts of {assumed[0]} tokens assumed, as the data are not here yet" if assumed else ""
    )


def time_line(durations: Sequence[Duration | None]) -> str:
    """Return where the column with the times comes from."""
    reused = dict.fromkeys(
        duration.source for duration in durations if duration is not None and duration.is_reused
    )
    earlier = dict.fromkeys(
        duration.source for duration in durations if duration is not None and not duration.is_reused
    )
    parts = []
    if earlier:
        parts.append(f"minutes:seconds that the same kind of step took in {_listed(list(earlier))}")
    if reused:
        parts.append(f"reused from {_listed(list(reused))}")
    if any(duration is None for duration in durations):
        parts.append("?: no earlier run to tell" if parts else "no earlier run to tell")
    return "; ".join(parts)


def _prompt(steps: Sequence[PlannedStep], focus: str) -> Text | None:
    """Return the first prompt of the focus step, or of another step if its data are not known yet.

    Raises:
        Refused: the chat template of the model cannot be used.
    """
    known = [step for step in steps if step.num_problems and uses_device(step)]
    if not known:
        return None
    step = next((step for step in known if step.name == focus), known[0])
    config = step.config
    assert config.stage is not None
    (problem,) = config.stage.data_sets(config)[0].first(config.stage.split, 1)
    shown = first_prompt(config.model, messages(problem.prompt, config.prompt))
    counted = "" if shown.num_tokens is None else f"{shown.num_tokens} tokens: "
    note = f"   [{shown.note}]" if shown.note else ""
    text = Text(counted)
    text.append(_cut(shown.text), style="cyan")
    text.append(note, style="yellow")
    return text


def _cut(text: str) -> str:
    """Return a prompt in one line, without its middle if it is long: the markers of the template are at its ends."""
    line = text.strip("\n").replace("\n", "↵")
    if len(line) <= _LONGEST_PROMPT:
        return line
    return f"{line[: _LONGEST_PROMPT * 2 // 3]} … {line[-(_LONGEST_PROMPT // 3) :]}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _rewards(steps: Sequence[PlannedStep]) -> str | None:
    """Return the committee of each step that has one; steps with the same are named together."""
    found: dict[str, list[str]] = {}
    for step in steps:
        if step.config.rewards:
            found.setdefault(_committee(step), []).append(step.name)
    if len(found) <= 1:
        return next(iter(found), None)
    return "\n".join(f"{', '.join(names)}: {text}" for text, names in found.items())


def _committee(step: PlannedStep) -> str:
    rewards = step.config.rewards or {}
    scored = " + ".join(f"{name} {reward.weight:g}" for name, reward in rewards.items() if reward.weight)
    logged = ", ".join(name for name, reward in rewards.items() if not reward.weight)
    return (scored or "nothing") + (f"; logged only: {logged}" if logged else "")
