"""Which addresses a page may be fetched from: public ones, whatever a link or a name says.

A page's address comes from strangers, and the server stands where they do not: behind a
firewall, beside a cloud's metadata service. So a name is resolved here, every answer must be
public, and the connection is made to the checked address (no second look-up that could
answer otherwise). The registries are IANA's of special-purpose addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

import httpx2

from r1.serving.search.results import SearchError

MAX_URL_CHARACTERS = 2048
_PORTS = {"http": 80, "https": 443}

# Global by Python's table, but not the web's: protocol assignments (Oracle's metadata service
# is there), relays to 6to4, and Azure's metadata service.
_BARRED_V4 = tuple(
    map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))
)
# Only 2000::/3 is given out. In it: Teredo, ORCHID and others, documentation, 6to4. Outside:
# IPv4-mapped, NAT64, unique local, link-local and multicast addresses.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_BARRED_V6 = tuple(
    map(
        ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """A link that may be followed, once its host's addresses are checked."""

    url: httpx2.URL
    host: str
    port: int


def check_link(url: httpx2.URL | str) -> Target:
    """The parts of an http or https link to the usual port. Raises SearchError."""
    if len(str(url)) > MAX_URL_CHARACTERS:
        raise SearchError(f"the link has more than {MAX_URL_CHARACTERS} characters")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError):
        raise SearchError("not a link") from None
    if parsed.scheme not in _PORTS:
        raise SearchError(f"{parsed.scheme or 'no scheme'}: only http and https links are followed")
    if parsed.userinfo:
        raise SearchError("the link carries a user name")
    host = parsed.raw_host.decode("ascii")
    if not host:
        raise SearchError("the link names no host")
    if "%" in host:  # what no host's name may hold
        raise SearchError("not a link")
    port = parsed.port or _PORTS[parsed.scheme]
    if port not in _PORTS.values():
        raise SearchError(f"port {port}: only 80 and 443 are used")
    return Target(parsed, host, port)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, by the system's resolver. Raises SearchError."""
    loop = asyncio.get_running_loop()
    try:
        answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SearchError(f"{host}: no such host") from None
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def check_addresses(host: str, addresses: list[str]) -> list[str]:
    """The addresses, when there are some and all are public. Raises SearchError.

    One that is not condemns the others: a name with mixed answers is an attack, or is not
    meant for us.
    """
    if not addresses:
        raise SearchError(f"{host}: no such host")
    for address in addresses:
        if not is_public(address):
            raise SearchError(f"{host}: {address} is not a public address")
    return addresses


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the public web."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(number, ipaddress.IPv4Address):
        is_special = number.is_multicast or number.is_reserved
        return number.is_global and not is_special and not any(number in n for n in _BARRED_V4)
    return number in _GLOBAL_V6 and not any(number in network for network in _BARRED_V6)
