"""Addresses of endpoints: which are well-formed, and which reach into the consumer's own machine.

No name is resolved here: a name that is no IP address is judged by its letters.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from hamlet_core.imports.names import host_name_fault

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, section 2.1
_LOOPBACK = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_METADATA = ipaddress.IPv4Address("169.254.169.254")

FORBIDDEN: tuple[tuple[str, str], ...] = (
    # Documented by Amazon, Google, Microsoft and others; Amazon over IPv6; Alibaba.
    ("169.254.169.254/32", "is the address of cloud metadata"),
    ("fd00:ec2::254/128", "is the address of cloud metadata"),
    ("100.100.100.200/32", "is the address of cloud metadata"),
    ("127.0.0.0/8", "is on loopback"),  # RFC 1122, section 3.2.1.3
    ("::1/128", "is on loopback"),  # RFC 4291, section 2.5.3
    ("169.254.0.0/16", "is link-local"),  # RFC 3927
    ("fe80::/10", "is link-local"),  # RFC 4291, section 2.5.6
    ("0.0.0.0/8", "is unspecified"),  # RFC 1122; Linux connects it to itself
    ("::/128", "is unspecified"),  # RFC 4291, section 2.5.2
    ("224.0.0.0/4", "is multicast"),  # RFC 1112
    ("ff00::/8", "is multicast"),  # RFC 4291, section 2.7
    ("255.255.255.255/32", "is broadcast"),  # RFC 919
)
_FORBIDDEN = tuple((ipaddress.ip_network(network), what) for network, what in FORBIDDEN)

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog"})


class EndpointFault(NamedTuple):
    """What is wrong with an address, and the network that would have to be allowed."""

    what: str
    network: str


def parse_ip(text: str) -> IP | None:
    """The IP address that `text` is, or None. A zone (`%eth0`) is no part of an address."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def address_fault(text: str) -> str | None:
    """Why `text` is neither an IP address nor a host name, or None when it is one."""
    if "%" in text:
        return "has a zone, which means something on one machine only"
    if parse_ip(text) is not None:
        return None
    fault = host_name_fault(text)
    return f"is no IP address and no host name: {fault}" if fault else None


def embedded(address: IP) -> IP:
    """The IPv4 address that an IPv6 address stands for (mapped, NAT64, 6to4), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


@lru_cache(maxsize=256)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def endpoint_fault(text: str, allowed: tuple[str, ...]) -> EndpointFault | None:
    """Why an endpoint at `text` is refused, or None. `allowed` are networks that the operator permits.

    Refused are the addresses of `FORBIDDEN`, in IPv4 or embedded in IPv6, and the names that every
    resolver turns into one of them: those are allowed when that one is within an
    allowed network.
    """
    networks = _networks(allowed)
    address = parse_ip(text)
    if address is None:
        return _name_fault(text.lower(), networks)
    for form in (embedded(address), address):
        for network, what in _FORBIDDEN:
            if form in network:
                if any(form in permitted or address in permitted for permitted in networks):
                    return None
                return EndpointFault(what, f"{form}/{form.max_prefixlen}")
    return None


def _name_fault(name: str, networks: tuple[Network, ...]) -> EndpointFault | None:
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):  # RFC 6761, section 6.3
        if any(address in permitted for address in _LOOPBACK for permitted in networks):
            return None
        return EndpointFault("is a name of loopback", "127.0.0.1/32")
    if name in _METADATA_NAMES and not any(_METADATA in permitted for permitted in networks):
        return EndpointFault("is a name of cloud metadata", f"{_METADATA}/32")
    return None
