"""The process between SLURM and the ranks of one node."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from r1exp.step.stop_request import requested_stop


def test_a_signal_to_every_process_of_a_step_requests_a_checkpoint_and_ends_none(tmp_path: Path) -> None:
    """SLURM signals all processes at once, including programs without a handler."""
    script = tmp_path / "rank.py"
    script.write_text("import subprocess, sys; sys.exit(subprocess.run(['sleep', '2']).returncode + 7)")
    node = subprocess.Popen(
        [sys.executable, "-m", "r1exp.runner.slurm_node", str(tmp_path), sys.executable, str(script)]
    )
    end = time.monotonic() + 60
    tree = psutil.Process(node.pid)
    while not any(process.name() == "sleep" for process in tree.children(recursive=True)):
        assert time.monotonic() < end
        time.sleep(0.02)
    for process in [*tree.children(recursive=True), tree]:
        os.kill(process.pid, signal.SIGTERM)
    assert node.wait(60) == 7
    request = requested_stop(tmp_path)
    assert request is not None and request.state == "preempted"


def test_the_processes_of_a_node_end_when_the_process_that_srun_started_is_killed(tmp_path: Path) -> None:
    mark = f"4812.{os.getpid()}"
    node = subprocess.Popen(
        [sys.executable, "-m", "r1exp.runner.slurm_node", str(tmp_path), "setsid", "sleep", mark]
    )
    end = time.monotonic() + 60
    while not (tree := psutil.Process(node.pid).children(recursive=True)) or tree[-1].name() != "sleep":
        assert time.monotonic() < end
        time.sleep(0.02)
    node.kill()
    node.wait()
    _, left = psutil.wait_procs(tree, 10.0)
    assert left == []
