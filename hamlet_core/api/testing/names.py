"""Who the checks of the kit pretend to be, and how they call what they make."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The agents, the peers and the services of a run of the checks.

    The agent under test is that of `mesh`, with `trust_domain` and `registry` in its marks; the other
    agents differ from it in `other_trust_domain` or `other_registry`. Imports come from `peer` and
    `other_peer`. `own` is part of the name of everything that the checks make, so that they look past
    everything else in a registry that is in use; it is empty where the registry is theirs alone.
    """

    mesh: str = "west"
    domain: str = "west.example"
    trust_domain: str = "west.example"
    registry: str = "main"
    other_trust_domain: str = "north.example"
    other_registry: str = "second"
    peer: str = "east"
    other_peer: str = "north"
    own: str = ""

    def local(self, name: str) -> str:
        """How the checks call a local service."""
        return f"{self.own}-{name}" if self.own else name


OWN = "hamletverify"
LIVE_NAMES = Names(
    mesh=OWN,
    domain=f"{OWN}.example",
    trust_domain=f"{OWN}.example",
    registry=OWN,
    other_trust_domain=f"other.{OWN}.example",
    other_registry=f"{OWN}-2",
    peer=f"{OWN}-east",
    other_peer=f"{OWN}-north",
    own=OWN,
)
"""The names of `hamlet verify-adapter`, which no real mesh has: a mark of theirs is no real agent's, a lead of theirs
is nobody's, and what they write shows where it is from."""
