"""Builds the seccomp filter that refuses system calls in the sandbox, in the format of the kernel.

Namespaces and resource limits do not cover everything: a new user namespace gives a process capabilities
over its own mounts (and a tmpfs without a limit); memfd, System V shared memory and message queues hold
memory that no limit counts; AF_VSOCK connects to the host of a virtual machine in spite of network
namespaces; keyrings have no namespace; io_uring starts operations that a filter does not see. The filter
refuses these system calls and allows all others.

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
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag that clone() accepts
_X32 = 0x40000000  # numbers of the x32 ABI, on x86-64 only

# Refused with ENOSYS, so that a C library uses an older call instead.
_ABSENT = {"clone3", "memfd_create", "memfd_secret"}

# name: (x86-64, arm64); from the kernel's syscall tables
_REFUSED = {
    "unshare": (272, 97), "setns": (308, 268), "clone3": (435, 435),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "msgget": (68, 186), "mq_open": (240, 180),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "kexec_load": (246, 104),
}  # fmt: skip
_SOCKET, _CLONE = (41, 198), (56, 220)
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
def program() -> bytes:
    """Return the filter for this machine."""
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
    for call, numbers in _REFUSED.items():
        error = errno.ENOSYS if call in _ABSENT else errno.EPERM
        instructions += [_instruction(_EQUAL, numbers[column], otherwise=1), _refuse(error)]
    instructions += [  # of sockets only Unix sockets: what they connect is inside the sandbox
        _instruction(_EQUAL, _SOCKET[column], otherwise=4),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_EQUAL, _AF_UNIX, otherwise=1),
        _instruction(_RETURN, _ALLOW),
        _refuse(errno.EPERM),
        _instruction(_EQUAL, _CLONE[column], otherwise=3),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_ANY_BIT, _NEW_NAMESPACES, otherwise=1),
        _refuse(errno.EPERM),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(instructions)
