"""The errors of this adapter, each one of the core's families, so that the core knows what to do about it."""

from __future__ import annotations

from hamlet_core.api import AdapterError, RegistryUnavailable


class ConsulDenied(RegistryUnavailable):
    """Consul refuses the token (403), or the token does not see what it must see.

    It counts as unavailable: what is known is kept, and the call is tried again, so that a token or policy
    that is mended on Consul's side is enough to recover.
    """


class UnknownToken(ConsulDenied):
    """Consul has no such token: it was deleted, mistyped, or is of another datacenter."""


class ConsulRefused(AdapterError):
    """Consul finds the call itself wrong (400 and its kin): trying again changes nothing."""


RIGHTS = {
    "catalog": 'node_prefix "" and service_prefix "" (read)',
    "health": 'node_prefix "" and service_prefix "" (read)',
    "txn": 'node_prefix "hamlet-<mesh>-" and service_prefix "" (write)',
    "config": 'service_prefix "" (read)',
    "agent": 'agent_prefix "" (read)',
    "kv": 'key_prefix "" for that key',
}
"""The right that a call under /v1/<key> needs, for the message of a refusal."""


def right_for(path: str) -> str:
    """Name the right that a call to `path` needs."""
    return RIGHTS.get(path.removeprefix("/v1/").partition("/")[0], f"that {path} needs")
