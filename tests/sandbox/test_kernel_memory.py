"""No program takes much memory of the kernel: each attack of benchmarks/sandbox_memory.py is refused or ended."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from r1exp.sandbox.base import Case, CaseResult, Language, Limits, Submission, Unavailable
from r1exp.sandbox.local import Local

Judge = Callable[[Submission, Sequence[Case], Limits], list[CaseResult] | Unavailable]

# What an attack may get: its own number, the first that it prints; None: it is killed for memory.
ALLOWED: dict[str, int | None] = {
    "extended attributes": 0,
    "empty files with long names": 999,
    "hard links": 998,
    "folders": 999,
    "shared memory, unmapped but for a page": 0,
    "shared memory of /dev/zero": 0,
    "System V semaphores": 0,
    "socket buffers": None,
    "pages given to pipes": 0,
    "watches of epoll": 0,
    "watches of inotify": 0,
    "timers": 128,
    "queued signals": 128,
    "record locks": 0,
    "memory areas": None,
    "rules of Landlock": 0,
    "terminals": 0,
    "events of asynchronous input": 0,
}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "sandbox_memory.py"
    spec = importlib.util.spec_from_file_location("sandbox_memory", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("attack", ALLOWED)
def test_an_attack_on_the_memory_of_the_kernel_is_refused_or_ended(
    judge: Judge, benchmark: ModuleType, attack: str
) -> None:
    limits = Limits(cpu_seconds=4.0, wall_seconds=20.0, memory_mib=160, num_processes=24, scratch_files=1000)
    allowed = ALLOWED[attack]
    answer = judge(benchmark.wrapped("python", attack, ""), [Case("", f"done {allowed}")], limits)
    assert isinstance(answer, list), answer
    assert answer[0].outcome == ("memory" if allowed is None else "passed"), answer[0]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["watches of epoll", "page tables"])
def test_what_node_is_allowed_is_counted(judge: Judge, benchmark: ModuleType, attack: str) -> None:
    if lacking := Local().lacks("javascript"):
        pytest.skip(lacking)
    language: Language = "javascript"
    limits = Limits(wall_seconds=20.0, num_processes=40, memory_mib=256)
    answer = judge(benchmark.wrapped(language, attack, "/usr/bin/python3"), [Case("", "killed")], limits)
    assert isinstance(answer, list), answer
    assert answer[0].outcome == "memory", answer[0]


def test_ordinary_programs_do_not_notice(judge: Judge, limits: Limits) -> None:
    source = """
import asyncio, mmap, multiprocessing.connection, os, shutil, socket, tempfile, threading
async def main():
    await asyncio.sleep(0)
    return 7
open("a", "w").write("x")
shutil.copy2("a", "b")
with tempfile.TemporaryFile() as file: file.write(b"x")
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
ours, theirs = socket.socketpair(); ours.send(b"x"); theirs.recv(1)
with open("a") as file: mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
pid = os.fork()
if pid == 0: os._exit(3)
print(asyncio.run(main()), os.waitpid(pid, 0)[1] >> 8)
"""
    answer = judge(Submission("python", source), [Case("", "thread\n7 3")], limits)
    assert isinstance(answer, list)
    assert answer[0].outcome == "passed", answer[0]
