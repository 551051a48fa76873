"""The same attacks, written in each language, are contained as root and as another user.

A program prints `done` only if its attack worked, and `done` is its expected output.
"""

import textwrap
import time
from collections.abc import Callable, Sequence

import pytest

from r1exp.sandbox.base import Case, CaseResult, Language, Limits, Submission, Unavailable
from r1exp.sandbox.local import Local

Judge = Callable[[Submission, Sequence[Case], Limits], list[CaseResult] | Unavailable]

CPP = """
#include <arpa/inet.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iostream>
#include <fstream>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vector>
int main() {
    int worked = 0;
    BODY
    puts(worked ? "done" : "no");
}
"""
JS = """
const fs = require('fs'), net = require('net'), {spawnSync, spawn} = require('child_process')
let worked = false
const tried = (work) => { try { work(); worked = true } catch {} }
BODY
console.log(worked ? 'done' : 'no')
"""

# attack: the outcomes that contain it, and its programs in C++ and JavaScript (test_attacks.py has those in Python)
ATTACKS: dict[str, tuple[set[str], str, str]] = {
    "fork bomb": ({"timeout", "memory", "crash"}, "for (;;) fork();", """
        const start = `const {spawn} = require('child_process');
        for (;;) try { spawn(process.execPath, ['-e', 'for (;;);'], {stdio: 'ignore'}) } catch {}`
        for (;;) try { spawn(process.execPath, ['-e', start], {stdio: 'ignore'}) } catch {}
        """),
    "memory bomb": ({"memory", "crash"}, """
        for (int i = 0; i < 40; i++) { auto p = new std::vector<char>(1 << 24, 1); worked = p->size() > 1; }
        """, "const kept = []; for (let i = 0; i < 40; i++) kept.push(Buffer.alloc(1 << 24, 1)); worked = true"),
    "memory bomb on the heap": ({"memory", "crash"}, """
        for (int i = 0; i < 20000000; i++) worked = *new int(i) + 1;
        """, "const kept = []; for (let i = 0; i < 2e7; i++) kept.push({i}); worked = true"),
    "disk": ({"wrong", "crash"}, """
        std::vector<char> data(1 << 20, 1);
        for (int i = 0; i < 40; i++) { std::ofstream out(std::to_string(i)); out.write(data.data(), data.size()); out.flush(); if (!out) exit(1); }
        worked = 1;
        """, "for (let i = 0; i < 40; i++) fs.writeFileSync(String(i), Buffer.alloc(1 << 20)); worked = true"),
    "files": ({"wrong", "crash"}, """
        for (int i = 0; i < 20000; i++) if (open((std::string(240, 'x') + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600) < 0) exit(1); else close(3);
        worked = 1;
        """, "for (let i = 0; i < 20000; i++) fs.closeSync(fs.openSync('x'.repeat(240) + i, 'w')); worked = true"),
    "extended attributes": ({"wrong", "crash"}, """
        open("f", O_CREAT | O_WRONLY, 0600);
        worked = setxattr("f", "user.x", "y", 1, 0) == 0;
        """, "fs.writeFileSync('f', ''); worked = spawnSync('/usr/bin/setfattr', ['-n', 'user.x', '-v', 'y', 'f']).status === 0"),
    "output without end": ({"crash"}, "for (std::string line(1 << 20, 'x');;) std::cout << line;",
        "for (;;) fs.writeSync(1, 'x'.repeat(1 << 16))"),
    "secrets": ({"wrong"}, """
        for (auto name : {"/etc/passwd", "/root/.bashrc", "/home", "/proc/1/root/etc/hostname"})
            worked |= open(name, O_RDONLY) >= 0;
        for (int pid = 1; pid < 100; pid++) {
            std::ifstream in("/proc/" + std::to_string(pid) + "/environ");
            std::string text((std::istreambuf_iterator<char>(in)), {});
            worked |= text.find("R1EXP_SECRET") != std::string::npos;
        }
        """, """
        for (const name of ['/etc/passwd', '/root/.bashrc', '/home/x', '/proc/1/root/etc/hostname'])
          tried(() => fs.readFileSync(name))
        tried(() => fs.readdirSync('/root')); tried(() => fs.readdirSync('/home'))
        for (let pid = 1; pid < 100; pid++)
          try { worked ||= fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes('R1EXP_SECRET') } catch {}
        """),
    "network": ({"wrong"}, """
        for (int domain : {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, 40}) worked |= socket(domain, SOCK_STREAM, 0) >= 0;
        """, """
        const server = net.createServer(); server.on('error', () => { console.log('no'); process.exit(0) })
        server.listen(0, '127.0.0.1', () => { console.log('done'); process.exit(0) })
        setTimeout(() => {}, 500)
        """),
    "symbolic links": ({"wrong"}, """
        symlink("/", "root"); symlink("/proc/1/root", "one"); symlink("/proc/self/cwd/../..", "up");
        for (auto top : {"root", "one", "up"}) for (auto name : {"/etc/passwd", "/root/.bashrc", "/home"})
            worked |= open((std::string(top) + name).c_str(), O_RDONLY) >= 0;
        worked |= open("root/usr/mark", O_CREAT | O_WRONLY, 0600) >= 0;
        """, """
        fs.symlinkSync('/', 'root'); fs.symlinkSync('/proc/1/root', 'one')
        for (const top of ['root', 'one']) for (const name of ['/etc/passwd', '/root/.bashrc'])
          tried(() => fs.readFileSync(top + name))
        tried(() => fs.writeFileSync('root/usr/mark', 'x'))
        """),
    "parents": ({"wrong", "crash"}, "kill(getppid(), SIGKILL); kill(1, SIGKILL);", """
        for (const pid of [process.ppid, 1]) try { process.kill(pid, 'SIGKILL') } catch {}
        """),
    "its tests and its source": ({"wrong"}, """
        for (auto name : {"/source/program", "/source/main.cpp", "/source/expected", "/usr/bin/g++", "/proc/sys/kernel/hostname", "/dev/mark"})
            worked |= open(name, O_CREAT | O_WRONLY, 0600) >= 0 || chmod(name, 0777) == 0 || unlink(name) == 0;
        """, """
        for (const name of ['/source/main.js', '/source/expected', '/usr/bin/node', '/proc/sys/kernel/hostname', '/dev/mark'])
          tried(() => fs.writeFileSync(name, 'x'))
        tried(() => fs.chmodSync('/source/main.js', 0o777)); tried(() => fs.unlinkSync('/source/main.js'))
        """),
}  # fmt: skip


def program(language: Language, cpp: str, javascript: str) -> Submission:
    shell, body = (CPP, cpp) if language == "cpp" else (JS, javascript)
    return Submission(language, textwrap.dedent(shell).replace("BODY", textwrap.dedent(body)))


@pytest.fixture(params=["cpp", "javascript"])
def language(request: pytest.FixtureRequest) -> Language:
    lacking = Local().lacks(request.param)
    if lacking is not None:
        pytest.skip(lacking)
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_contained_in_each_language(
    judge: Judge,
    limits: Limits,
    language: Language,
    attack: tuple[set[str], str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("R1EXP_SECRET", "x")
    outcomes, *sources = attack
    began = time.monotonic()
    answer = judge(program(language, *sources), [Case("", "done")], limits)
    assert isinstance(answer, list), answer
    assert answer[0].outcome in outcomes and answer[0].score == 0.0, answer[0]
    assert time.monotonic() - began < 25


@pytest.mark.slow
def test_a_program_that_sleeps_for_ever_is_killed(
    judge: Judge, impatient: Limits, language: Language
) -> None:
    source = program(language, "sleep(60);", "setTimeout(() => {}, 60000)")
    answer = judge(source, [Case("", "done")], impatient)
    assert isinstance(answer, list)
    assert answer[0].outcome == "timeout"


def test_javascript_runs_as_on_a_judge(judge: Judge, limits: Limits) -> None:
    lacking = Local().lacks("javascript")
    if lacking is not None:
        pytest.skip(lacking)
    source = """
        const lines = require('fs').readFileSync('/dev/stdin', 'utf8').split('\\n')
        const depth = (n) => n === 0 ? 0 : 1 + depth(n - 1)
        console.log(lines[0].split(' ').map(Number).reduce((a, b) => a + b), depth(100000))
        """
    answer = judge(Submission("javascript", source), [Case("1 2\n", "3 100000")], limits)
    assert isinstance(answer, list)
    assert answer[0].outcome == "passed", answer[0]
