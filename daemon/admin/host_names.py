"""Under which names a server answers.

A web page that somebody opens beside a forwarded port could read the answers under a name of its own that resolves to this
address (DNS rebinding). So a request is answered only if its Host is an address, a name without a dot, a name that no public
DNS server can serve, this machine's own name, or one of `admin.host_names`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

PRIVATE_SUFFIXES = (".svc", ".cluster.local", ".local", ".internal", ".localhost")
"""Names of Kubernetes services, of private networks (RFC 6762, the top-level domain that ICANN has reserved), and of this
machine (RFC 6761)."""

UNKNOWN_HOST = (
    "This server is not known under the name in the Host header. To allow it, add it to admin.host_names.\n"
)


def names_of(host: str, host_names: Iterable[str]) -> frozenset[str]:
    """The names of a server that listens on this address: `host_names` are further names under which clients reach it."""
    return frozenset(name.casefold() for name in (host, socket.gethostname(), *host_names))


def is_known(header: str, names: frozenset[str]) -> bool:
    """Whether a request with this Host header is answered."""
    name = _name_of(header)
    return _is_private(name) or name in names


def _name_of(header: str) -> str:
    """The name or address in a Host header, without the port."""
    name = header.rpartition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]
    return name.casefold().removesuffix(".")


def _is_private(name: str) -> bool:
    """Whether no name server of an attacker can answer for this name. An absent header, as in HTTP/1.0, is not from a
    browser.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(PRIVATE_SUFFIXES)
    return True
