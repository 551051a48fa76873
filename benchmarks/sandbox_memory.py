"""Measures the kernel memory that hostile programs take beside their own, with the local sandbox's default limits.

    python benchmarks/sandbox_memory.py [--user UID] [--language python|cpp|javascript] [ATTACK...]

Each attack takes one kind of kernel memory until a call is refused or a limit ends it. For each, the slab before
and at its peak (`Slab` of /proc/meminfo), and the peak of all memory that is neither a process's own nor the
cache of files (slab, tmpfs, pipes, sockets, page tables, stacks), in MiB above the start. The figures are those of the
machine, so that other work on it shows in them. `done` counts what the attack got; -1 means that it was killed.
C++ and JavaScript programs start the same attack in Python, under the filter and the limits of their language.
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

from r1exp.sandbox.base import Invocation, Language, Limits, Submission
from r1exp.sandbox.bubblewrap import interpreter
from r1exp.sandbox.local import Local

START = """
import ctypes, errno, mmap, os, platform, sys, time
libc, arm = ctypes.CDLL(None, use_errno=True), platform.machine() == "aarch64"
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_size_t] * 1 + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = libc.madvise.argtypes = libc.mprotect.argtypes = None
done, seconds = 0, time.monotonic()
def late(): return time.monotonic() - seconds > 3
def processes(work, number=20):
    "Do the work in many processes, which all stay alive until the attack has had its effect."
    reader, writer = os.pipe()
    for _ in range(number):
        try: pid = os.fork()
        except OSError: break
        if pid == 0:
            os.close(reader)
            try: got = work()
            except OSError: got = 0
            os.write(writer, b"%d\\n" % got)
            time.sleep(30)
    os.close(writer)
    total, lines = 0, b""
    while lines.count(b"\\n") < number and not late(): lines += os.read(reader, 100)
    time.sleep(0.3)
    return sum(map(int, lines.split()))
"""
END = "\ntime.sleep(0.2)\nprint('done', done)\nsys.stdout.flush()\nos._exit(0)\n"

ATTACKS = {
    "extended attributes": """
while not late():
    name = f"f{done}"
    try:
        open(name, "w").close()
        for part in range(20): os.setxattr(name, f"user.{part}", bytes(60000)); done += 1
    except OSError: break
""",
    "empty files with long names": """
while not late():
    try: os.close(os.open("x" * 240 + str(done), os.O_CREAT | os.O_WRONLY)); done += 1
    except OSError: break
""",
    "hard links": """
open("f", "w").close()
while not late():
    try: os.link("f", "x" * 240 + str(done)); done += 1
    except OSError: break
""",
    "folders": """
while not late():
    try: os.mkdir("d" * 240 + str(done)); done += 1
    except OSError: break
""",
    "shared memory, unmapped but for a page": """
size = 1 << 28
while not late() and done < 10:
    at = libc.mmap(None, size, 3, 0x21, -1, 0)
    if at in (None, 2 ** 64 - 1): break
    for part in range(0, size, 1 << 22):
        ctypes.memset(at + part, 1, 1 << 22)
        libc.madvise(ctypes.c_void_p(at + part), ctypes.c_size_t(1 << 22), 4)
    libc.munmap(ctypes.c_void_p(at + 4096), ctypes.c_size_t(size - 4096)); done += 1
""",
    "shared memory of /dev/zero": """
size = 1 << 28
try: zero = os.open("/dev/zero", os.O_RDWR)
except OSError: zero = -1
while not late() and done < 10:
    at = libc.mmap(None, size, 3, 0x01, zero, 0)
    if at in (None, 2 ** 64 - 1): break
    for part in range(0, size, 1 << 22):
        ctypes.memset(at + part, 1, 1 << 22)
        libc.madvise(ctypes.c_void_p(at + part), ctypes.c_size_t(1 << 22), 4)
    libc.munmap(ctypes.c_void_p(at + 4096), ctypes.c_size_t(size - 4096)); done += 1
""",
    "System V semaphores": """
while not late() and done < 1000 and libc.semget(0, 32000, 0o600) >= 0: done += 1
""",
    "socket buffers": """
import socket
def work():
    kept, number = [], 0
    try:
        while True:
            pair = socket.socketpair(); kept.append(pair)
            for end in pair:
                end.setblocking(False)
                try:
                    while True: end.send(bytes(30000)); number += 1
                except BlockingIOError: pass
    except OSError: pass
    globals()["kept"] = kept
    return number
done = processes(work)
""",
    "pipes": """
import fcntl
def work():
    number = 0
    try:
        while True:
            reader, writer = os.pipe(); os.set_blocking(writer, False)
            try: fcntl.fcntl(writer, 1031, 1 << 20)
            except OSError: pass
            try:
                while True: os.write(writer, bytes(65536)); number += 1
            except BlockingIOError: pass
    except OSError: pass
    return number
done = processes(work)
""",
    "pages given to pipes": """
def work():
    class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    number, huge = 0, 1 << 21
    at = libc.mmap(None, 64 * huge, 3, 0x22, -1, 0)
    at = (at + huge - 1) // huge * huge
    libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(62 * huge), 14)
    for _ in range(25):
        reader, writer = os.pipe()
        for part in range(14):
            ctypes.memset(at + part * huge, 1, huge)
            number += libc.vmsplice(writer, ctypes.byref(Vector(at + part * huge, 1)), ctypes.c_size_t(1), 2) == 1
            libc.madvise(ctypes.c_void_p(at + part * huge), ctypes.c_size_t(huge), 4)
        if number == 0: break
    return number
done = work()
""",
    "watches of epoll": """
import select
keep = []
for _ in range(15):
    try: keep.append(select.epoll())
    except OSError: break
def work():
    number = 0
    for _ in range(12):
        reader, writer = os.pipe(); os.close(writer)
        for target in range(40, 60): os.dup2(reader, target)
        for poll in keep:
            for target in range(40, 60): poll.register(target, 0); number += 1
        for target in range(40, 60): os.close(target)
    return number
done = processes(work) if keep else 0
""",
    "watches of inotify": """
try: number = libc.inotify_init1(0)
except AttributeError: number = -1
for top, folders, files in os.walk("/usr"):
    if number < 0 or late(): break
    for name in files + folders:
        if libc.inotify_add_watch(number, os.path.join(top, name).encode(), 2) < 0: number = -1; break
        done += 1
""",
    "timers": """
timer = ctypes.c_void_p()
while not late() and done < 200000 and libc.timer_create(0, None, ctypes.byref(timer)) == 0: done += 1
""",
    "queued signals": """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {40})
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
while not late() and done < 500000 and libc.sigqueue(os.getpid(), 40, None) == 0: done += 1
""",
    "record locks": """
import fcntl
def work():
    number = 0
    try:
        for name in range(25):
            file = os.open(f"{os.getpid()}-{name}", os.O_CREAT | os.O_RDWR)
            for at in range(0, 2000, 2):
                fcntl.lockf(file, fcntl.LOCK_EX, 1, at); number += 1
    except OSError: pass
    return number
done = processes(work)
""",
    "memory areas": """
size = 65000 * 4096
at = libc.mmap(None, size, 0, 0x4022, -1, 0)
for page in range(0, size, 8192):
    if libc.mprotect(ctypes.c_void_p(at + page), ctypes.c_size_t(4096), 1) != 0: break
    done += 1
done = done + processes(lambda: done)
""",
    "page tables": """
def work():
    number = 0
    for length in (1 << 39, 1 << 36, 1 << 33, 1 << 31, 1 << 29):
        at = libc.mmap(None, length, 1, 0x4022, -1, 0)
        if at in (None, 2 ** 64 - 1): continue
        for part in range(0, min(length, 1 << 36), 1 << 21):
            ctypes.c_char.from_address(at + part).value; number += 1
        break
    return number
done = processes(work)
""",
    "rules of Landlock": """
class Ports(ctypes.Structure): _pack_, _fields_ = 1, [("access", ctypes.c_uint64), ("port", ctypes.c_uint64)]
class Handled(ctypes.Structure): _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64)]
for _ in range(50):
    number = libc.syscall(444, ctypes.byref(Handled(0, 3)), ctypes.c_size_t(16), 0)
    if number < 0 or late(): break
    for port in range(65536):
        if libc.syscall(445, number, 2, ctypes.byref(Ports(1, port)), 0) != 0: break
        done += 1
""",
    "terminals": """
def work():
    number = 0
    try:
        while True:
            front, back = os.openpty(); os.set_blocking(front, False); number += 1
            try:
                while True: os.write(front, b"x\\n" * 2000)
            except BlockingIOError: pass
    except OSError: pass
    return number
done = processes(work)
""",
    "events of asynchronous input": """
context = ctypes.c_ulong()
while not late() and done < 1000:
    context.value = 0
    if libc.syscall(0 if arm else 206, 4096, ctypes.byref(context)) != 0: break
    done += 1
""",
}


def wrapped(language: Language, attack: str, python: str) -> Submission:
    """Return a program that makes `attack`; C++ and JavaScript start Python, whose executable is `python`."""
    source = START + ATTACKS[attack] + END
    if language == "python":
        return Submission("python", source)
    if language == "cpp":
        text = f'#include <unistd.h>\nint main() {{ execl("{python}", "python", "-c", R"r1exp({source})r1exp", nullptr); return 9; }}'
        return Submission("cpp", text)
    start = f"require('child_process').spawnSync({json.dumps(python)}, ['-c', {json.dumps(source)}], {{stdio: 'inherit'}})"
    return Submission(language, start)


def kernel_memory() -> tuple[int, int]:
    """Return the slab, and all memory that is neither a process's own nor the cache of files, in KiB."""
    fields = {}
    for line in Path("/proc/meminfo").read_bytes().decode().splitlines():
        name, number = line.split()[:2]
        fields[name.rstrip(":")] = int(number)
    cached = fields["Buffers"] + fields["Cached"] - fields["Shmem"]
    return fields["Slab"], fields["MemTotal"] - fields["MemFree"] - cached - fields["AnonPages"]


def measured(submission: Submission, python: str | None) -> tuple[int, int, int, str]:
    """Return slab before, slab at its peak, all kernel memory above the start (KiB), and the outcome."""
    before, peak, stop = kernel_memory(), [0, 0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for column, now in enumerate(kernel_memory()):
                peak[column] = max(peak[column], now)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with Local(python=python).prepared(submission, Limits()) as execute:
        done = execute(Invocation())
    stop.set()
    watcher.join()
    words = done.stdout.split()
    outcome = f"{done.ended} {done.exit_code} {words[-1] if words[:1] == ['done'] else -1}"
    return before[0], peak[0], peak[1] - before[1], outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--user", type=int, help="user id to become first (as root)")
    parser.add_argument("--language", default="python", choices=["python", "cpp", "javascript"])
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS))
    args = parser.parse_args()
    if args.user is not None:
        os.setgroups([])
        os.setresgid(args.user, args.user, args.user)
        os.setresuid(args.user, args.user, args.user)
    path = None if os.access(sys.base_prefix, os.R_OK) else "/usr/bin/python3"
    # Node's sandbox does not contain the Python that runs r1exp.
    start = "/usr/bin/python3" if args.language == "javascript" else interpreter(path).executable
    print("attack                                   slab before  slab peak  kernel memory  outcome (done)")
    for attack in args.attacks:
        before, peak, kernel, outcome = measured(wrapped(args.language, attack, start), path)
        print(
            f"{attack:<40} {before / 1024:7.0f} MiB {peak / 1024:6.0f} MiB {kernel / 1024:8.0f} MiB   {outcome}",
            flush=True,
        )
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
