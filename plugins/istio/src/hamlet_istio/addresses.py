"""Virtual addresses: one per imported TCP service, kept in the object that has it. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Container

from hamlet_core.api import InvalidService


def allocate(host: str, network: str, taken: Container[str]) -> str:
    """The address of `host`: by a hash of it, the next free one where that is `taken`.

    The same host gets the same address as long as nobody else has it; what stands keeps its own whatever happens.
    `InvalidService` when the network is full.
    """
    pool = ipaddress.ip_network(network)
    usable = pool.num_addresses - 2 if pool.num_addresses > 2 else pool.num_addresses
    first = 1 if pool.num_addresses > 2 else 0  # not the network's own address, nor broadcast
    start = int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest()) % usable
    for step in range(usable):
        address = str(pool[first + (start + step) % usable])
        if address not in taken:
            return address
    message = f"no virtual address is left for {host} in {network}: set a wider `virtual_addresses`"
    raise InvalidService(message)


def lies_in(address: str, network: str) -> bool:
    """Whether it is an address of the network."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False
