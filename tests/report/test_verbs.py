"""`r1exp report` and `r1exp watch`: what they write, serve and refuse."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.errors import ExitCode
from r1exp.report.watch import Watch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["report"], "found no folder", id="no folder"),
        pytest.param(["report", "missing"], "there is no such folder", id="missing"),
        pytest.param(["report", "."], "neither a run directory nor a sweep", id="something else"),
        pytest.param(["report", "--output"], "--output DIR", id="no output"),
        pytest.param(["report", "--opne", "."], "found --opne", id="unknown option"),
        pytest.param(["watch"], "found 0 folders", id="watch nothing"),
        pytest.param(["watch", ".", "--port", "x"], "--port needs a number", id="no port"),
    ],
)
def test_a_mistake_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == ExitCode.REFUSED
    assert message in capsys.readouterr().err


def test_several_runs_are_compared_in_a_folder_of_their_own(
    tmp_path: Path, make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_run(tmp_path / name, overrides=(f"beta={name}",)) for name in ("a", "b")]
    assert main(["report", *map(str, runs), "--output", str(tmp_path / "both")]) == ExitCode.DONE
    assert capsys.readouterr().out.strip() == str(tmp_path / "both" / "report.html")
    found = {
        path.relative_to(tmp_path / "both").as_posix()
        for path in (tmp_path / "both").rglob("*")
        if path.is_file()
    }
    assert {
        "report.html",
        "report.md",
        "sweep-summary.json",
        "tables/settings.csv",
        "tables/settings.tex",
    } <= found
    assert "## Question and result" in (tmp_path / "both" / "report.md").read_text()


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path, make_run: Any) -> None:
    watch = Watch(tmp_path / "run", lambda folder: {})
    assert "there is no such folder" in watch.page() and "refresh" in watch.page()
    make_run(tmp_path / "run")
    assert "Asked:" in watch.page()


def test_a_run_whose_process_died_is_shown_as_such(tmp_path: Path, make_run: Any) -> None:
    run = make_run(tmp_path / "run")
    dead = {"run": {"state": "vanished", "reason": "its process no longer exists"}}
    assert "its process no longer exists" in Watch(run, lambda folder: dead).page()


@pytest.mark.slow
def test_watch_serves_on_loopback_until_ctrl_c(tmp_path: Path, make_run: Any) -> None:
    run = make_run(tmp_path / "run")
    command = [sys.executable, "-u", "-m", "r1exp", "watch", str(run)]
    environment = os.environ | {"NO_PROXY": "*"}
    # A shell lets what it starts in the background ignore Ctrl-C, these tests among them.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address) as answer:
            assert b"Asked:" in answer.read()
        other = urllib.request.Request(address, headers={"Host": "elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(other)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=20) == ExitCode.DONE
        finally:
            process.kill()
