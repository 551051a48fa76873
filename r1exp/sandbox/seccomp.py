"""Builds the seccomp filter that refuses system calls in the sandbox, in the format of the kernel.

Namespaces and resource limits do not cover everything: a new user namespace gives a process capabilities
over its own mounts; AF_VSOCK connects to the host of a virtual machine in spite of network namespaces;
keyrings have no namespace; io_uring starts operations that a filter does not see. And much memory of the
kernel has no limit: memfd, System V objects, shared memory that is unmapped, extended attributes, record
locks, rules of Landlock, watches of inotify and epoll, pages given to pipes. The filter refuses these system
calls and allows all others. Node cannot start without epoll; its watches are counted instead (`usage`).

Formats: linux/filter.h, linux/seccomp.h, linux/audit.h. bubblewrap reads the program from a file
descriptor (`--seccomp`).
"""

import errno
import functools
import platform
import struct

_ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
_ERRNO = 0x00050000  # SECCOMP_RET_ERRNO, or-ed with the errno
_KILL = 0x80000000  # SECCOMP_RET_KILL_PROCESS
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument has 8 bytes
_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag that clone() accepts
_SHARED, _ANONYMOUS = 0x01, 0x20  # flags of mmap
# Commands of fcntl: record locks (F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW), F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ.
_COMMANDS = (6, 7, 37, 38, 1024, 1026, 1031)
_X32 = 0x40000000  # numbers of the x32 ABI, on x86-64 only

# Refused with ENOSYS, so that a library uses an older call instead.
_ABSENT = {"clone3", "memfd_create", "memfd_secret", "epoll_create", "epoll_create1"}
_UNSUPPORTED = {"setxattr", "lsetxattr", "fsetxattr", "setxattrat"}  # ENOTSUP: copying a file goes on without

# name: (x86-64, arm64), None where there is none; from the kernel's syscall tables
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "unshare": (272, 97), "setns": (308, 268), "clone3": (435, 435),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "io_setup": (206, 0), "vmsplice": (278, 75),
    "setsockopt": (54, 208), "mbind": (237, 235), "syslog": (103, 116),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "kexec_load": (246, 104),
}  # fmt: skip
_REFUSED_BUT_NOT_FOR_NODE: dict[str, tuple[int | None, int | None]] = {
    "epoll_create": (213, None), "epoll_create1": (291, 20),
}  # fmt: skip
_SOCKETS = ((41, 198), (53, 199))  # socket, socketpair
_CLONE, _MMAP, _FCNTL = (56, 220), (9, 222), (72, 25)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_*


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """Return one struct sock_filter.

    Args:
        code: The operation.
        value: Its operand.
        then: Instructions that a comparison skips if it is true.
        otherwise: Instructions that it skips if it is false.
    """
    return struct.pack("HBBI", code, then, otherwise, value)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def architecture() -> str | None:
    """Return the name of this machine's architecture if the filter knows its system calls, else None."""
    name = platform.machine()
    return name if name in _ARCHITECTURES else None


@functools.cache
def program(*, for_node: bool = False) -> bytes:
    """Return the filter for this machine; with `for_node` it allows epoll."""
    name = architecture()
    assert name is not None, "check() refuses unknown machines"
    column, audit = _ARCHITECTURES[name]
    instructions = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, audit, then=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    if name == "x86_64":
        instructions += [_instruction(_AT_LEAST, _X32, otherwise=1), _refuse(errno.EPERM)]
    for call, numbers in (_REFUSED | ({} if for_node else _REFUSED_BUT_NOT_FOR_NODE)).items():
        number = numbers[column]
        if number is not None:
            instructions += [_instruction(_EQUAL, number, otherwise=1), _refuse(_error(call))]
    for numbers in _SOCKETS:  # only Unix sockets: what they connect is inside the sandbox
        instructions += _if_called(numbers[column], 0, [
            _instruction(_EQUAL, _AF_UNIX, then=1), _refuse(errno.EPERM),
        ])  # fmt: skip
    instructions += _if_called(_CLONE[column], 0, [
        _instruction(_ANY_BIT, _NEW_NAMESPACES, otherwise=1), _refuse(errno.EPERM),
    ])  # fmt: skip
    instructions += _if_called(_MMAP[column], 3, [
        _instruction(_ANY_BIT, _ANONYMOUS, otherwise=2), _instruction(_ANY_BIT, _SHARED, otherwise=1),
        _refuse(errno.ENOMEM),
    ])  # fmt: skip
    instructions += _if_called(_FCNTL[column], 1, [
        part for command in _COMMANDS
        for part in (_instruction(_EQUAL, command, otherwise=1), _refuse(errno.EPERM))
    ])  # fmt: skip
    return b"".join([*instructions, _instruction(_RETURN, _ALLOW)])


def _error(call: str) -> int:
    """Return the errno that a refused call gives."""
    return errno.ENOTSUP if call in _UNSUPPORTED else errno.ENOSYS if call in _ABSENT else errno.EPERM


def _if_called(number: int, argument: int, checks: list[bytes]) -> list[bytes]:
    """Return the instructions that apply `checks` to an argument (its low half) of one system call."""
    inside = [_instruction(_LOAD, _ARGUMENTS + 8 * argument), *checks, _instruction(_RETURN, _ALLOW)]
    return [_instruction(_EQUAL, number, otherwise=len(inside)), *inside]
