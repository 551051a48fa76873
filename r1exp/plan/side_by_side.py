"""Decides how many members of a sweep run at once on this machine, and which part of it each of them gets.

    sweep.parallel=auto   the least of   cores / (ranks of a member x threads of a rank)
                                         0.9 x memory / memory of a member, where members compute on the CPU
                                         GPUs / GPUs of a member x sweep.members_per_device
                                         members of the sweep

The memory of a member is the estimate of `plan` for its largest step, and what each rank takes before it has a model.
Members that share a GPU each get an equal part of its memory, vLLM's part too; what does not fit is refused.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from r1exp.errors import Refused
from r1exp.launcher.base import available_cores
from r1exp.model.memory import readable
from r1exp.plan.devices import Hardware, hardware_for
from r1exp.plan.fit import MARGIN
from r1exp.plan.members import Command, Member
from r1exp.plan.memory_report import MemoryReport
from r1exp.plan.run_plan import RunPlan
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import PlannedStep

_RANK = 750_000_000  # bytes of a rank before it has a model: Python, torch, TRL and what they import


@dataclass(frozen=True)
class Limit:
    """How many members one part of the machine allows at once."""

    members: int
    reason: str


@dataclass(frozen=True)
class Parallel:
    """How many members run at once, and why."""

    number: int
    text: str  # for `plan -m`; empty where nothing is to be said
    devices: tuple[
        str, ...
    ] = ()  # GPUs that they divide among themselves; none where they compute on the CPU
    odd: tuple[str, ...] = ()  # what deserves a second look


def at_once_of(plans: Iterable[RunPlan]) -> int | None:
    """Return how many of the jobs of a sweep SLURM may run at once; None: as many as it can."""
    found = {plan.config.sweep.parallel for plan in plans}
    return min((number for number in found if isinstance(number, int)), default=None)


def parallel_of(command: Command, members: Sequence[Member]) -> Parallel:
    """Return how many members of a command line run at once on this machine.

    Raises:
        Refused: there are too few GPUs for the number that was typed, or members that share a GPU do not fit.
    """
    settings = members[0].experiment.run.sweep
    job = job_of(members[0].experiment.run, members[0].steps)
    if job is not None and not job.wait:
        number = len(members) if settings.parallel in (None, "auto") else int(settings.parallel)
        limited = "all at once" if number >= len(members) else f"at most {number} at once"
        return Parallel(1, f"jobs of SLURM, {limited}" if command.is_sweep else "")
    if settings.parallel is None and settings.members_per_device == 1:
        return Parallel(1, _hint(members) if job is None and command.sweeper == "basic" else "")
    at_most = None if command.is_optimization else len(members)
    if job is not None:  # with launcher.wait=true: the jobs compute, and this machine only waits
        if settings.parallel == "auto":
            raise Refused(
                "sweep.parallel=auto counts this machine, and launcher=slurm uses others; type a number of jobs at once"
            )
        number = settings.parallel or 1
        return Parallel(min(number, at_most or number), f"{number} jobs of SLURM at once")
    machine = _Machine(members, settings.members_per_device)
    if settings.parallel is None or settings.parallel == "auto":
        return machine.most(at_most)
    return machine.typed(min(settings.parallel, at_most or settings.parallel))


def _hint(members: Sequence[Member]) -> str:
    """Return what a sweep whose members run one after the other could do instead; nothing where it is the same."""
    found = _Machine(members, 1).most(len(members))
    return (
        "" if found.number == 1 else f"one after the other; sweep.parallel=auto runs {found.number} at once"
    )


class _Machine:
    """This machine, and what one member needs of it."""

    def __init__(self, members: Sequence[Member], per_device: int) -> None:
        self._steps = list(
            {step.slot: step for member in members for step in member.steps if step.runs}.values()
        )
        self._steps = self._steps or list(members[0].steps)
        self._per_device = per_device
        on_gpus = [step for step in self._steps if step.device == "cuda"]
        self._devices = on_gpus[0].config.launcher.devices() if on_gpus else ()
        self._devices_each = max(map(_devices_of, on_gpus), default=0)
        self._cores = available_cores()
        self._cores_each = max(
            step.config.launcher.num_processes * (step.config.launcher.threads_per_process or 1)
            for step in self._steps
        )
        self._hardware = hardware_for("cuda" if on_gpus else "cpu")
        if per_device > 1 and not on_gpus:
            raise Refused(
                f"sweep.members_per_device={per_device}: these members compute on the CPU, and share its cores; type "
                "sweep.parallel=auto, and leave sweep.members_per_device out"
            )
        self._need = _largest(self._steps, self._hardware)  # bytes, of one device or of all ranks on a CPU
        if per_device > 1:
            self._refuse_too_large()

    def most(self, at_most: int | None) -> Parallel:
        """Return as many members as fit; at least one.

        Args:
            at_most: Members of the sweep; None: a sweeper decides how many there are.
        """
        limits = list(self._limits())
        if at_most is not None:
            limits.append(Limit(at_most, f"{at_most} members"))
        least = min(limits, key=lambda limit: limit.members)
        number = max(1, least.members)
        reasons = "; ".join(limit.reason for limit in limits if limit.members == least.members)
        return Parallel(
            number, f"{number} at once ({reasons})", self._given(number), tuple(self._odd(number))
        )

    def typed(self, number: int) -> Parallel:
        """Return the number that was typed; raise Refused if the machine has too few GPUs for it."""
        places = self._places()
        if self._devices_each and number > places:
            each = self._devices_each
            more = "" if self._per_device == 1 else f" for each {self._per_device} of them"
            raise Refused(
                f"sweep.parallel={number} members of {each} process(es) need {number * each // self._per_device or 1} GPUs"
                f"{more}, and this machine shows {len(self._devices)}; type sweep.parallel={max(1, places)}, or "
                f"launcher.num_processes={max(1, len(self._devices) // number)}"
            )
        return Parallel(number, f"{number} at once", self._given(number), tuple(self._odd(number)))

    def _limits(self) -> Iterator[Limit]:
        each = self._cores_each
        if not self._hardware.is_given:  # the cores of another machine are not known
            yield Limit(
                self._cores // each, f"{self._cores} core{'s' if self._cores > 1 else ''}, {each} a member"
            )
        if self._devices_each:
            shared = f", {self._per_device} members on one" if self._per_device > 1 else ""
            each = self._devices_each
            yield Limit(self._places(), f"{len(self._devices)} GPU(s), {each} a member{shared}")
        elif self._need is not None and self._hardware.memory is not None:
            yield Limit(
                int(MARGIN * self._hardware.memory / self._need),
                f"{readable(self._hardware.memory)} of memory, {readable(self._need)} a member",
            )

    def _places(self) -> int:
        """Return the members for which there are GPUs."""
        return 0 if not self._devices_each else len(self._devices) // self._devices_each * self._per_device

    def _given(self, number: int) -> tuple[str, ...]:
        return self._devices if number > 1 else ()

    def _odd(self, number: int) -> Iterator[str]:
        """Yield what is more than the machine has."""
        for limit in self._limits():
            if limit.members < number:
                yield f"{number} members at once are more than fit ({limit.reason}); sweep.parallel=auto counts"

    def _refuse_too_large(self) -> None:
        """Raise Refused if a member does not fit its part of a GPU, or if that is not known."""
        number, memory = self._per_device, self._hardware.memory
        if memory is None or self._need is None:
            raise Refused(
                f"sweep.members_per_device={number}: whether members fit a GPU together is not known on this machine; type the "
                "command where the GPUs are, after the model is there, or leave sweep.members_per_device out"
            )
        if self._need > MARGIN * memory / number:
            most = int(MARGIN * memory / self._need)
            instead = (
                f"type sweep.members_per_device={most}" if most > 1 else "leave sweep.members_per_device out"
            )
            raise Refused(
                f"sweep.members_per_device={number}: a member needs about {readable(self._need)}, more than {MARGIN:.0%} of its "
                f"part of {readable(memory)}; {instead}, or lower model.rows_per_device"
            )


def _devices_of(step: PlannedStep) -> int:
    """Return the GPUs of a step: of its ranks, and of a vLLM server beside them."""
    launcher = step.config.launcher
    served = step.served()
    if served is None or launcher.has_server_node:
        return launcher.num_processes
    theirs = served.settings.num_devices
    return launcher.num_processes + theirs if served.trains else max(launcher.num_processes, theirs)


def _largest(steps: Sequence[PlannedStep], hardware: Hardware) -> int | None:
    """Return the bytes of the largest step, on one GPU or of all ranks on a CPU; None: not known."""
    report = MemoryReport(hardware.memory)
    found = []
    for step in steps:
        need = report.need(step)
        if need is None or need.total is None:
            return None
        ranks = 1 if hardware.device == "cuda" else step.config.launcher.num_processes
        found.append((need.total + (0 if hardware.device == "cuda" else _RANK)) * ranks)
    return max(found)
