"""Runs accelerate's launcher with a rendezvous that only its own ranks can connect to: `python -m r1exp.launcher.agent`.

torch 2.13 starts the rendezvous of torchrun, a TCPStore without authentication, on every interface of the machine. Here
it listens on the address at which the ranks connect to it: loopback on one machine, the first node's own address on
several. Only where the name of that node means loopback to itself, as on Debian, does it still listen on all.

Every argument is passed on to accelerate.
"""

import ipaddress
import socket
import sys
from argparse import Namespace
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
    host: str, port: int, world_size: int | None, is_master: bool, timeout: Any, **options: Any
) -> Any:
    """Return the store of a rendezvous; takes the place of TCPStore in torch's static rendezvous (2.13)."""
    from torch.distributed import TCPStore

    own = listening(host, port, world_size or 1) if is_master else None
    if own is not None:
        options["master_listen_fd"] = own.detach()  # the store closes it
    return TCPStore(host, port, world_size, is_master, timeout, **options)


def main() -> None:
    """Run accelerate's launcher."""
    from accelerate.commands import launch
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.rendezvous import static_tcp_rendezvous

    run = torchrun.run

    def run_here(options: Namespace) -> None:
        """Meet at ::1 where torchrun's default address does not exist."""
        options.master_addr = loopback() if options.master_addr == LOOPBACK else options.master_addr
        run(options)

    torchrun.run = run_here
    static_tcp_rendezvous.TCPStore = _store  # type: ignore[assignment, misc] - a class, called with the same arguments
    launch.main()


if __name__ == "__main__":
    sys.exit(main())
