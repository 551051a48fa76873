from collections.abc import Sequence

import pytest

from r1exp.config.compose import session
from r1exp.plan import members
from r1exp.plan.members import command_of, members_of


def said(line: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Plan the members of a sweep and return what was said meanwhile."""
    with session():
        members_of(command_of(list(line), is_multirun=True))
    return capsys.readouterr().err


def test_a_sweep_whose_planning_takes_long_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["seed=1,2,3,4", "debug=fast"]
    monkeypatch.setattr(members, "_SILENCE", float("inf"))
    assert said(line, capsys) == ""
    monkeypatch.setattr(members, "_SILENCE", 0.0)
    assert said(line, capsys).startswith("planning 4 members takes about ")
    assert said(["seed=1,2", "debug=fast"], capsys) == ""
