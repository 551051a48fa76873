"""Locks that killed compilations of DeepSpeed leave, for which torch would wait for ever."""

import os
from pathlib import Path

import pytest

from r1exp.doctor import doctor_report
from r1exp.errors import Refused
from r1exp.launcher import extensions
from r1exp.launcher.ddp import Ddp
from r1exp.launcher.extensions import abandoned_locks, is_compiled
from r1exp.launcher.zero import Zero

ZERO = Zero(kind="zero2", num_processes=2, device="cpu", threads_per_process=1, port=None, offload=False)
DDP = Ddp(kind="ddp", num_processes=2, device="cpu", threads_per_process=1, port=None)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the lock file of torch; the name of the folder above it depends on the version of Python."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(extensions, "find_spec", lambda name: name)  # as if DeepSpeed were installed
    folder = tmp_path / "py311_cpu" / "deepspeed_shm_comm"
    folder.mkdir(parents=True)
    return folder / "lock"


def test_an_abandoned_lock_is_refused_with_the_command_that_removes_it(lock: Path) -> None:
    ZERO.refuse_unready()
    lock.touch()
    with pytest.raises(Refused, match=f"rm -r {lock.parent}$"):
        ZERO.refuse_unready()
    DDP.refuse_unready()


def test_the_lock_of_a_running_compilation_is_not_abandoned(lock: Path) -> None:
    handle = os.open(lock, os.O_CREAT | os.O_EXCL)  # as torch.utils.file_baton does
    assert abandoned_locks() == []
    os.close(handle)
    assert abandoned_locks() == [lock]


def test_zero_without_deepspeed_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"launcher=zero2 needs DeepSpeed.*pip install 'r1exp\[deepspeed\]'"):
        ZERO.refuse_unready()
    DDP.refuse_unready()


@pytest.mark.integration
def test_doctor_names_the_lock_and_the_compiled_extension(lock: Path) -> None:
    pytest.importorskip("deepspeed", reason="the doctor checks the installed DeepSpeed")
    assert not is_compiled()
    (lock.parent / "deepspeed_shm_comm.so").touch()
    lock.touch()
    report = doctor_report().text()
    assert f"rm -r {lock.parent}" in report
    assert "compiled" in report
