"""Runs accelerate's launcher with a rendezvous that only its own ranks can connect to: `python -m r1exp.launcher.agent`.

torch 2.13 starts the rendezvous of torchrun, a TCPStore without authentication, on every interface of the machine. Here
it listens on the address at which the ranks connect to it: loopback on one machine, the first node's own address on
several. Only where the name of that node means loopback to itself, as on Debian, does it still listen on all.

Every argument is passed on to accelerate.
"""

import ipaddress
import socket
from argparse import Namespace
from importlib import import_module
from typing import Any

from r1exp.launcher.base import LOOPBACK, loopback


def listening(host: str, port: int, num_nodes: int) -> socket.socket | None:
    """Return a socket that listens at the first address of `host`; None if other nodes cannot connect to it.

    Args:
        host: Name or address at which the launchers and ranks connect.
        port: TCP port.
        num_nodes: Machines on which ranks run.

    Raises:
        OSError: the port is taken, or the machine does not have the address.
    """
    found = [each[4][0] for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    addresses = [str(each) for each in found if num_nodes == 1 or not is_loopback(str(each))]
    for place, address in enumerate(addresses):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            return socket.create_server((address, port), family=family, backlog=4096)
        except OSError:
            if place + 1 == len(addresses):
                raise
    return None


def is_loopback(address: str) -> bool:
    """Whether only this machine can connect to an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _store(
    host_name: str, port: int, world_size: int | None, is_master: bool, timeout: Any, **options: Any
) -> Any:
    """Return the store of a rendezvous; takes the place of TCPStore in torch's rendezvous (2.13)."""
    from torch.distributed import TCPStore

    # A launcher gives the number of machines, and a rank without a launcher is alone.
    own = listening(host_name, port, world_size or 1) if is_master else None
    if own is not None:
        options["master_listen_fd"] = own.detach()  # the store closes it
    return TCPStore(host_name, port, world_size, is_master, timeout, **options)


def listen_at_the_address(module: str = "torch.distributed.rendezvous") -> None:
    """Let a module of torch that starts a rendezvous listen at its address, not on all interfaces.

    Args:
        module: Its name; the attribute `torch.distributed.rendezvous` is a function.
    """
    vars(import_module(module))["TCPStore"] = _store  # called with the same arguments as the class


def main() -> None:
    """Run accelerate's launcher."""
    from accelerate.commands import launch
    from torch.distributed import run as torchrun

    run = torchrun.run

    def run_here(options: Namespace) -> None:
        """Meet at ::1 where torchrun's default address does not exist."""
        options.master_addr = loopback() if options.master_addr == LOOPBACK else options.master_addr
        run(options)

    torchrun.run = run_here
    listen_at_the_address("torch.distributed.elastic.rendezvous.static_tcp_rendezvous")
    launch.main()


if __name__ == "__main__":
    main()
