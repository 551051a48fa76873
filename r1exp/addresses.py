"""Decides which addresses are reached directly, without the HTTP proxy that the environment names.

HTTP_PROXY, HTTPS_PROXY and ALL_PROXY lead to the internet. A proxy on another machine cannot reach the loopback address
of this one, and one at the border of a network does not lead back into it. So loopback and private addresses are always
reached directly, and all others as the environment says (NO_PROXY included). Torch-free.
"""

import socket
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies

_NO_PROXY = ("no_proxy", "NO_PROXY")  # libraries read the first one first
# What `requests` (TRL's vLLM client), curl, gRPC and Go understand in NO_PROXY; httpx knows no networks.
_DIRECT = (
    "localhost", "127.0.0.0/8", "127.0.0.1", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
)  # fmt: skip


def is_private(host: str) -> bool:
    """Whether `host` is an address that only this machine or its private network can connect to."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_private and not address.is_unspecified and not address.is_multicast


def has_proxy() -> bool:
    """Whether the environment names an HTTP proxy."""
    return any(scheme in ("http", "https", "all") for scheme in getproxies())


def is_direct(host: str) -> bool:
    """Whether a host is reached without a proxy: localhost, a private address, or a name of private addresses.

    Args:
        host: Name or address, IPv6 without brackets.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or is_private(name):
        return True
    with suppress(ValueError):
        ip_address(name)
        return False  # a public address
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # the proxy may know the name
    return all(is_private(str(entry[4][0]).partition("%")[0]) for entry in found)


def reach_private_directly(environment: MutableMapping[str, str], urls: Iterable[str] = ()) -> None:
    """Add loopback and private addresses to NO_PROXY, for libraries that have HTTP clients of their own.

    Changes nothing where the environment names no proxy.

    Args:
        environment: Environment variables of a process.
        urls: Services whose hosts are added as they are: few libraries understand private IPv6 networks.
    """
    if not any(environment.get(name) for scheme in ("http", "https", "all") for name in _names(scheme)):
        return
    earlier = next((environment[name] for name in _NO_PROXY if environment.get(name)), "")
    hosts = [part.strip() for part in earlier.split(",") if part.strip()]
    if "*" in hosts:
        return
    named = [urlsplit(url).hostname or "" for url in urls]
    text = ",".join(dict.fromkeys([*hosts, *_DIRECT, *filter(None, named)]))
    for name in _NO_PROXY:
        environment[name] = text


def _names(scheme: str) -> tuple[str, str]:
    return f"{scheme}_proxy", f"{scheme.upper()}_PROXY"
