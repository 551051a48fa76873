"""Bubblewrap as this machine's root uses it, and as everybody else does."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import Pipe

import pytest

from r1exp.sandbox.base import Case, CaseResult, Limits, Submission, Unavailable
from r1exp.sandbox.judge import run
from r1exp.sandbox.local import Local

SOMEBODY = 23456  # a user id without an account

Answer = list[CaseResult] | Unavailable
Judge = Callable[[Submission, Sequence[Case], Limits], Answer]


def _as_somebody(submission: Submission, cases: Sequence[Case], limits: Limits) -> Answer:
    """Run in a child that has given up being root."""
    reader, writer = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
            os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
            python = None if os.access(sys.base_prefix, os.R_OK) else "/usr/bin/python3"
            writer.send(run(Local(python=python), submission, cases, limits))
        except Exception:  # noqa: BLE001 the parent reports it
            writer.send(traceback.format_exc())
        finally:
            os._exit(0)
    writer.close()
    try:
        return reader.recv()
    finally:
        os.waitpid(child, 0)


def _as_root(submission: Submission, cases: Sequence[Case], limits: Limits) -> Answer:
    return run(Local(), submission, cases, limits)


@pytest.fixture(params=["root", "user"])
def judge(request: pytest.FixtureRequest) -> Judge:
    """The local sandbox, once for each way of giving a tree its name."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("what root does needs root; `user` tests what this user does")
    return _as_somebody if request.param == "user" and os.geteuid() == 0 else _as_root


@pytest.fixture
def limits() -> Limits:
    """Small, so that what runs into them does so soon."""
    return Limits(
        cpu_seconds=1.0, wall_seconds=1.5, memory_mib=128, num_processes=16, output_kib=1024, scratch_mib=16
    )
