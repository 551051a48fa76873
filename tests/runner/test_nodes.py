"""Two nodes on one machine: two processes of r1exp with the variables of a scheduler, which train one policy together."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from r1exp.errors import ExitCode, Refused, StepFailed
from r1exp.launcher.base import free_port
from r1exp.launcher.torchrun_nodes import Torchrun
from r1exp.paths import RunPaths
from r1exp.runner.nodes import FirstNode, OtherNode
from r1exp.runner.sweep import run_members
from r1exp.step.checkpoints import last_checkpoint, seconds_of_checkpoint
from r1exp.step.status import read_status

LINE = [
    "stage=rl", "model=tiny", "max_steps=8", "trainer.save_steps=2", "algorithm.prompts_per_step=4", "num_generations=4",
    "max_completion_length=16", "dataset.num_train=100", "evaluation.before=false", "evaluation.after=false",
    "tracking=none", "launcher.device=cpu", "launcher.threads_per_process=1",
]  # fmt: skip


def launcher(patience: float = 60.0, rank: int = 0) -> Torchrun:
    return Torchrun(
        kind="torchrun", nodes=2, node_rank=rank, address="127.0.0.1", port=4000, processes_per_node=1, strategy="ddp",
        offload=False, patience=patience, device="cpu", threads_per_process=1,
    )  # fmt: skip


@contextmanager
def nodes(folder: Path, *overrides: str, is_typed: bool = False) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the same command on two nodes, whose places are variables or typed; the second one first."""
    port, started = free_port("127.0.0.1"), []
    for rank in (1, 0):
        place = {"NNODES": "2", "NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "r1exp", *LINE, f"paths.run={folder}", f"paths.store={folder}-store", *overrides]  # fmt: skip
        if is_typed:
            place = {}
            command += ["launcher.nodes=2", f"launcher.node_rank={rank}", "launcher.address=127.0.0.1", f"launcher.port={port}"]  # fmt: skip
        log = (folder.parent / f"{folder.name}-node-{rank}.txt").open("ab")
        started.append(
            subprocess.Popen(
                command, env={**os.environ, **place}, stdout=log, stderr=log, start_new_session=True
            )
        )
    try:
        yield started[::-1]
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def ended(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    return [process.wait(timeout=300) for process in processes]


def result(folder: Path) -> str:
    status = read_status(folder / "steps" / "01-grpo")
    assert status is not None and status.artifact is not None
    return status.artifact.hash


def on_one_node(folder: Path, launcher: str) -> str:
    """Return the weights of two ranks on one machine."""
    overrides = [*LINE, f"launcher={launcher}", "launcher.num_processes=2", f"paths.run={folder}", f"paths.store={folder}-store"]  # fmt: skip
    assert run_members(overrides, False, []) == ExitCode.DONE
    return result(folder)


@pytest.fixture(scope="module")
def of_ddp(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of two ranks of launcher=ddp."""
    return on_one_node(tmp_path_factory.mktemp("ddp") / "run", "ddp")


@pytest.mark.slow
def test_two_nodes_train_to_the_weights_of_two_ranks_on_one(of_ddp: str, tmp_path: Path) -> None:
    with nodes(tmp_path / "run", "launcher=torchrun") as both:
        assert ended(both) == [0, 0]
    assert result(tmp_path / "run") == of_ddp
    seconds = seconds_of_checkpoint(tmp_path / "run" / "steps" / "01-grpo")
    assert seconds is not None and 0 < seconds < 100
    assert "joins 01-grpo" in (tmp_path / "run-node-1.txt").read_text()


@pytest.mark.slow
def test_two_nodes_whose_places_are_typed_share_weights_as_two_ranks_of_fsdp2(tmp_path: Path) -> None:
    with nodes(tmp_path / "run", "launcher=torchrun", "launcher.strategy=fsdp2", is_typed=True) as both:
        assert ended(both) == [0, 0]
    assert result(tmp_path / "run") == on_one_node(tmp_path / "one", "fsdp2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "number", "codes"),
    [
        pytest.param(1, signal.SIGTERM, [75, 75], id="the scheduler ends the other node"),
        pytest.param(0, signal.SIGKILL, [-9, 3], id="the first node is lost"),
    ],
)
def test_nodes_that_are_ended_continue_to_the_same_weights(
    node: int, number: signal.Signals, codes: list[int], of_ddp: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with nodes(run, "launcher=torchrun", "launcher.patience=20") as both:
        end = time.monotonic() + 240
        while last_checkpoint(run / "steps" / "01-grpo") is None and time.monotonic() < end:
            time.sleep(0.05)
        both[node].send_signal(number)
        assert ended(both) == codes
    with nodes(run, "launcher=torchrun") as both:
        assert ended(both) == [0, 0]
    assert result(run) == of_ddp


def test_a_node_that_does_not_come_ends_the_run(tmp_path: Path) -> None:
    first = FirstNode(tmp_path, launcher(patience=0.1))
    with pytest.raises(StepFailed, match=r"node 1 did not come within launcher.patience=0.1 s"):
        first.gather(launcher(), lambda: None)


def test_a_first_node_that_does_not_come_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"no sign of the first node for launcher\.patience=0\.1 s"):
        OtherNode(tmp_path, launcher(0.1, rank=1), ()).follow()


def test_what_an_earlier_start_left_is_no_order(tmp_path: Path) -> None:
    folder = RunPaths(tmp_path).nodes
    folder.mkdir()
    old = {"beat": 9, "members": {"1": "of a process that has ended"}, "launch": "x", "step": "01-grpo", "code": 0}  # fmt: skip
    (folder / "first.json").write_text(json.dumps(old))
    with pytest.raises(StepFailed, match="no sign"):
        OtherNode(tmp_path, launcher(0.5, rank=1), ()).follow()


def test_all_nodes_end_with_the_exit_code_of_the_run(tmp_path: Path) -> None:
    codes: list[ExitCode] = []
    other = threading.Thread(
        target=lambda: codes.append(OtherNode(tmp_path, launcher(rank=1), ())._followed())
    )
    other.start()
    first = FirstNode(tmp_path, launcher())
    with first.owning():
        first.end(ExitCode.STOPPED)
    other.join(timeout=20)
    assert codes == [ExitCode.STOPPED]


@pytest.mark.parametrize(
    ("overrides", "is_multirun", "message"),
    [
        pytest.param([], False, "type paths.run=DIR", id="no run directory"),
        pytest.param(["paths.run=x", "seed=1,2"], True, "a command for each member", id="a sweep"),
    ],
)
def test_several_nodes_need_one_run_directory(
    overrides: list[str], is_multirun: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=message):
        run_members([*LINE, "launcher=torchrun", "launcher.nodes=2", *overrides], is_multirun, [])
