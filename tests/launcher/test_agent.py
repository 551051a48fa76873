"""The rendezvous listens only where its ranks connect to it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from r1exp.launcher.agent import listening
from r1exp.launcher.base import free_port, loopback, loopback_interface
from r1exp.launcher.ddp import Ddp

# Prints the addresses at which the launcher and this rank listen, when all ranks have met.
RANK = """
import os, sys, psutil, torch.distributed
torch.distributed.init_process_group("gloo")
torch.distributed.barrier()
for process in (psutil.Process(os.getppid()), psutil.Process()):
    for each in process.net_connections("tcp"):
        if each.status == "LISTEN":
            sys.stdout.write(f"LISTENS {each.laddr.ip}\\n")
sys.stdout.flush()
torch.distributed.barrier()
"""


def test_one_machine_listens_on_loopback_and_several_on_an_address_that_others_reach() -> None:
    port = free_port("127.0.0.1")
    own = listening("127.0.0.1", port, num_nodes=1)
    assert own is not None
    with own:
        assert own.getsockname() == ("127.0.0.1", port)
    assert listening("127.0.0.1", port, num_nodes=2) is None  # torchrun listens on all of them


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="needs IPv6")
def test_an_address_of_ipv6_is_listened_at() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    own = listening("::1", port, num_nodes=1)
    assert own is not None
    with own:
        assert own.getsockname()[0] == "::1"


def test_gloo_and_nccl_use_the_loopback_interface_unless_the_user_named_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launcher = Ddp(kind="ddp", num_processes=2, device="cpu", threads_per_process=1, port=None)
    name = loopback_interface()
    assert any(each.address == loopback() for each in psutil.net_if_addrs()[str(name)])
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    environment = launcher.launch(Path("step")).environment
    assert (environment["GLOO_SOCKET_IFNAME"], environment["NCCL_SOCKET_IFNAME"]) == (name, "eth7")


@pytest.mark.slow
def test_no_port_of_a_launch_with_ranks_is_open_to_other_machines(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    launcher = Ddp(kind="ddp", num_processes=2, device="cpu", threads_per_process=1, port=None)
    launch = launcher.launch(tmp_path)
    for name, text in launch.files.items():
        (tmp_path / name).write_text(text)
    command = [*launch.arguments[: launch.arguments.index("r1exp.worker") - 1], str(tmp_path / "rank.py")]
    environment = os.environ | launch.environment
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = {line.split()[1] for line in run.stdout.splitlines() if line.startswith("LISTENS")}
    assert found and found <= {"127.0.0.1", "::1"}


# Prints the addresses at which a rank without a launcher listens.
ALONE = """
import psutil, torch.distributed
from r1exp.launcher.agent import listen_at_the_address
listen_at_the_address()
torch.distributed.init_process_group("gloo")
print(*{each.laddr.ip for each in psutil.Process().net_connections("tcp") if each.status == "LISTEN"})
"""


@pytest.mark.slow
def test_a_rank_without_a_launcher_is_not_open_to_other_machines() -> None:
    host, name = loopback(), loopback_interface()
    own = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": host, "MASTER_PORT": str(free_port(host))}
    environment = os.environ | own | {"GLOO_SOCKET_IFNAME": str(name)}
    run = subprocess.run(
        [sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == [host], run.stderr
