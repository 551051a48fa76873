"""Starts a run again from its manifest, and compares the results: `r1exp reproduce RUN`.

The command is that of the run, in a new folder with a step store of its own, so that nothing is reused and every step is
computed again. What differs from the manifest is said before it starts: code, versions, settings, data, hardware.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from r1exp.assets import ROOT
from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.errors import ExitCode, Refused
from r1exp.files import read_json_object, write_json
from r1exp.paths import RunPaths
from r1exp.plan.reuse import within
from r1exp.plan.step_range import StepRange
from r1exp.plan.steps import planned_steps
from r1exp.report.reproduction import compared
from r1exp.runner.differences import checkout_of, code_differences, differences
from r1exp.runner.manifest import texts_in
from r1exp.runner.run_directory import perform, start_run
from r1exp.terminal import say, show

_PLACES = ("paths.run=", "paths.store=")  # where a run is; a reproduction is elsewhere
_MAIN = "import sys; from r1exp.__main__ import main; sys.exit(main())"


def reproduce(run: Path, config_dirs: Sequence[Path] = (), *, checks_out: bool = False) -> ExitCode:
    """Run the command of a run again, and show what differed and whether the result is the same.

    Args:
        run: Its directory.
        config_dirs: Folders with config groups that the command was typed with.
        checks_out: Use the code of the run, checked out from its commit with its uncommitted changes, instead of the code here.

    Returns:
        DONE if the result is the same, bit for bit or within the intervals; else FAILED, or the exit code of the new run.

    Raises:
        Refused: the folder has no manifest, or the command cannot be run here.
    """
    theirs = _manifest_of(run)
    run = run.resolve()
    folder = _new_folder(run)
    arguments = [text for text in texts_in(theirs, "overrides") if not text.startswith(_PLACES)]
    arguments += [f"paths.run={folder}", f"paths.store={folder / '.store'}"]
    say(
        f"r1exp {shlex.join(arguments)}\nbegun {theirs.get('created')}; everything is computed again in {folder}"
    )
    with chdir(_working_directory(run)):
        code = (
            _run_checked_out(theirs, arguments, config_dirs, _last_of(run))
            if checks_out
            else _run_here(run, theirs, arguments, config_dirs)
        )
    if code != ExitCode.DONE:
        return code
    if not RunPaths(folder).summary.exists():  # a job
        show(f"when the job has ended: r1exp reproduce {shlex.quote(str(run))} {shlex.quote(str(folder))}")
        return ExitCode.DONE
    return compare(run, folder)


def compare(there: Path, here: Path) -> ExitCode:
    """Show whether two run directories hold the same result, and write it to `reproduction.json` in the second one.

    Returns:
        DONE if they do, bit for bit or within the intervals; else FAILED.
    """
    found = compared(there, here)
    write_json(RunPaths(here).reproduction, {"of": str(there), **found.to_json()})
    show(found.text(), end="")
    return ExitCode.DONE if found.verdict in ("equal", "within") else ExitCode.FAILED


def _manifest_of(run: Path) -> dict[str, Any]:
    manifest = read_json_object(RunPaths(run).manifest)
    if not texts_in(manifest, "step_keys"):
        raise Refused(
            f"{run} is not the directory of a run: it has no {RunPaths(run).manifest.name} of one; `r1exp runs` lists them"
        )
    return manifest


def _new_folder(run: Path) -> Path:
    """Return a folder beside the run, or beside the sweep that it is a member of, that does not exist."""
    sweep = RunPaths(run).sweep
    base = run if sweep is None else sweep.folder.with_name(f"{sweep.folder.name}-{run.name}")
    number = 1
    while (folder := base.with_name(f"{base.name}-again-{number}")).exists():
        number += 1
    return folder


def _working_directory(run: Path) -> Path:
    """Return the folder in which the command was typed, from which relative paths start; else the current one."""
    typed = read_json_object(RunPaths(run).plan).get("working_directory")
    if typed and Path(typed).is_dir():
        return Path(typed)
    say(
        f"the folder in which the command was typed, {typed}, is not here; relative paths start from the current one"
    )
    return Path.cwd()


def _last_of(run: Path) -> str | None:
    """Return the last step that a run was to execute; None where that is its last one."""
    steps = read_json_object(RunPaths(run).plan).get("steps", ())
    names = [str(step["name"]) for step in steps if isinstance(step, dict) and step.get("runs", True)]
    return names[-1] if names and names[-1] != steps[-1].get("name") else None


def _run_here(
    run: Path, theirs: Mapping[str, Any], arguments: Sequence[str], config_dirs: Sequence[Path]
) -> ExitCode:
    with session(config_dirs):
        experiment = experiment_from(arguments)
        steps = within(planned_steps(experiment), StepRange(None, _last_of(run)), experiment)
        found = [str(difference) for difference in differences(run, steps)]
        code = code_differences(theirs)
        if code:
            found.append(f"the code of r1exp (--checkout runs that of the run):\n{code}")
        if not found:
            say("nothing differs: the same code, versions, settings, data and hardware")
        for line in found:
            say(f"differs: {line}")
        return perform(start_run(experiment, steps))[0]


def _run_checked_out(
    theirs: Mapping[str, Any], arguments: Sequence[str], config_dirs: Sequence[Path], last: str | None
) -> ExitCode:
    """Run the command with the code of the run, in a process of its own."""
    options = [f"--config-dir={folder.resolve()}" for folder in config_dirs]
    options += [] if last is None else [f"--until={last}"]
    with checkout_of(theirs) as code:
        here = Path.cwd()
        place = here
        if here.is_relative_to(ROOT):  # there, Python would import the code of this checkout
            same = code / here.relative_to(ROOT)
            place = same if same.is_dir() else code
        path = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-P", "-c", _MAIN, *options, *arguments]
        process = subprocess.Popen(command, cwd=place, env=os.environ | {"PYTHONPATH": path})
        with _signals_handled_by(process):
            ended = process.wait()
    return ExitCode(ended) if ended in set(ExitCode) else ExitCode.FAILED


@contextmanager
def _signals_handled_by(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave Ctrl-C, which the terminal sends to both, to a child, and pass SIGTERM on to it."""

    def nothing(number: int, frame: FrameType | None) -> None:
        """Do nothing. SIG_IGN would be inherited by the child."""

    def passed_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, nothing)
    signal.signal(signal.SIGTERM, passed_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
