"""Lists what differs between the manifest of a run and what is here: code, versions, settings, inputs, hardware."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.assets import ROOT
from r1exp.config.overrides import flat
from r1exp.errors import Refused
from r1exp.files import read_json_object
from r1exp.paths import RunPaths
from r1exp.plan.steps import PlannedStep
from r1exp.runner.manifest import hardware, revision, versions

_CODE = ("r1exp", "conf", "launchers", "sweeps", "pyproject.toml")  # what of a checkout decides a result
_NUM_LINES = 40  # lines of a difference of code that are shown
_NOTHING = "nothing"


@dataclass(frozen=True)
class Difference:
    """One thing that differs."""

    what: str
    there: str
    here: str

    def __str__(self) -> str:
        return f"{self.what}: {self.there} there, {self.here} here"


def differences(run: Path, steps: Sequence[PlannedStep]) -> list[Difference]:
    """Return what differs between a run and the same command planned here, other than code in a checkout (`code_differences`).

    Args:
        run: Directory of the run.
        steps: The planned steps.
    """
    theirs = read_json_object(RunPaths(run).manifest)
    found = _differing("version of ", theirs.get("versions", {}), versions())
    settings, inputs = theirs.get("steps", {}), _inputs(run)
    for step in steps:
        own = step.config.model_dump(mode="json")
        found += _differing(f"{step.name}: ", flat(settings.get(step.name, {})), flat(own))
        found += _differing(f"content of {step.name}'s ", inputs.get(step.name, {}), step.inputs)
    return found + _differing("hardware: ", theirs.get("hardware", {}), hardware(steps[0].device))


def _differing(prefix: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(f"{prefix}{name}", str(there.get(name, _NOTHING)), str(here.get(name, _NOTHING)))
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]


def _inputs(run: Path) -> dict[str, dict[str, str]]:
    """Return step -> what it read from outside the run -> content hash."""
    steps = read_json_object(RunPaths(run).plan).get("steps", ())
    return {str(step.get("name")): dict(step.get("inputs", {})) for step in steps if isinstance(step, dict)}


def code_differences(theirs: Mapping[str, Any]) -> str:
    """Return how the code of a run differs from the code here, as a unified diff that is cut off; empty if it does not.

    Args:
        theirs: The manifest of the run, with its commit and its uncommitted changes.
    """
    there, here = theirs.get("git"), revision()
    if not there or not here:
        if bool(there) == bool(here):
            return ""  # both installed: their versions are compared
        return f"the run is of {'a checkout' if there else 'an installed r1exp'}, and this is {'a checkout' if here else 'an installed r1exp'}"
    if there == here:
        return ""
    try:
        trees = [_tree(there["commit"], there["diff"]), _tree("HEAD", None)]
    except _GitFailed as error:
        return f"commit {there['commit'][:7]} there and {here['commit'][:7]} here, which cannot be compared: {error}"
    lines = _git("diff", "--unified=0", *trees, "--", *_CODE).splitlines()
    if len(lines) > _NUM_LINES:
        lines = [
            *lines[:_NUM_LINES],
            f"... and {len(lines) - _NUM_LINES} more lines: git diff {' '.join(trees)}",
        ]
    return "\n".join(lines)


@contextmanager
def checkout_of(theirs: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder with the code of a run: its commit, with the changes that were not committed.

    Args:
        theirs: The manifest of the run.

    Raises:
        Refused: r1exp is no checkout there or here, or the commit is not in this one.
    """
    there = theirs.get("git")
    if not there or revision() is None:
        where = "the run was made with" if not there else "this is"
        version = theirs.get("versions", {}).get("r1exp")
        raise Refused(
            f"--checkout needs a checkout of r1exp, and {where} an installed one; install r1exp=={version} instead"
        )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "r1exp"
        try:
            _git("worktree", "add", "--detach", str(folder), there["commit"])
            if there["diff"]:
                _git("-C", str(folder), "apply", "--whitespace=nowarn", "-", text=there["diff"] + "\n")
        except _GitFailed as error:
            raise Refused(
                f"the code of the run (commit {there['commit'][:7]}) cannot be checked out from {ROOT}: {error}; "
                "fetch the commit first"
            ) from error
        try:
            yield folder
        finally:
            with suppress(_GitFailed):
                _git("worktree", "remove", "--force", str(folder))


class _GitFailed(Exception):
    """A command of git failed; its message is the last line that git wrote."""


def _tree(commit: str, patch: str | None) -> str:
    """Return the id of a tree object: a commit with a patch, or with what has changed in the checkout (None)."""
    with tempfile.TemporaryDirectory() as place:
        index = {"GIT_INDEX_FILE": str(Path(place) / "index")}
        _git("read-tree", commit, **index)
        if patch is None:
            _git("add", "--update", "--", ".", **index)
        elif patch:
            _git("apply", "--cached", "--whitespace=nowarn", "-", text=patch + "\n", **index)
        return _git("write-tree", **index)


def _git(*arguments: str, text: str | None = None, **environment: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(ROOT), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    if answer.returncode:
        raise _GitFailed(
            (answer.stderr.strip().splitlines() or [f"git {arguments[0]} failed"])[-1].removeprefix("fatal: ")
        )
    return answer.stdout.strip()
