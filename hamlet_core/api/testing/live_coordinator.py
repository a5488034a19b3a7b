"""A coordinator that may be in use, under the checks, whose agents are of meshes that nobody else leads.

What takes an agent's reach, or puts something of others in its way, needs a `CoordinatorBackend`; without one those
checks are not run, and say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from hamlet_core.api import AdapterContext, ConfigError, Stop
from hamlet_core.api.testing.candidates import Candidates, hooks_of
from hamlet_core.api.testing.coordinator_backend import CoordinatorBackend
from hamlet_core.api.testing.live_role import LiveRole, Open, attempt, missing, put
from hamlet_core.api.testing.names import LIVE_NAMES

USUAL_TTL = 15.0
"""Seconds: the time-to-live where nobody says another, as in Kubernetes' own leader election."""


class LiveCoordinatorBackend(CoordinatorBackend):
    """A live coordinator: `opens` makes its adapter as configured, or `hands` do, which act on its backend."""

    def __init__(self, opens: Open, hands: CoordinatorBackend | None) -> None:
        self._opens = opens
        self._hands = hands
        self._foreign: dict[str, AdapterContext] = {}
        self.ttl = USUAL_TTL if hands is None else _seconds(hands)

    def open(self, context: AdapterContext) -> object:
        """Open the adapter; hands may have put something between it and its backend."""
        return self._opens(context) if self._hands is None else self._hands.open(context)

    def cut(self, adapter: object) -> AbstractContextManager[None]:
        """Take the backend from this adapter."""
        return (self._hands or missing("takes its reach from one agent")).cut(adapter)

    def add_foreign(self, context: AdapterContext) -> str:
        """Put something of others there; it is taken out after the check."""
        hands = self._hands or missing("puts something of others in the way")
        return put(self._foreign, f"mesh {context.mesh} of {context.trust_domain}", context, hands.add_foreign)

    def entries(self) -> Mapping[str, object]:
        """List everything that stands."""
        return (self._hands or missing("lists everything that stands")).entries()

    def tidy(self) -> Iterator[str]:
        """Take out what the hands made; yield what could not be, which is tried again the next time."""
        if self._hands is None:
            return
        for mesh, context in list(self._foreign.items()):
            what = f"something of others where {mesh} is led"
            left = list(attempt(what, self._hands.remove_foreign, context))
            yield from left
            if not left:
                del self._foreign[mesh]

    def close(self) -> None:
        """Release what the hands hold."""
        if self._hands is not None:
            self._hands.close()


def _seconds(hands: CoordinatorBackend) -> float:
    found: object = getattr(hands, "ttl", None)
    if not isinstance(found, int | float) or found <= 0:
        message = (
            f"the backend {type(hands).__name__} has {found!r} as `ttl`, which are seconds that a lead counts for"
        )
        raise ConfigError(message, mend="set it to what the backend forgets a lead after that is not renewed")
    return float(found)


class LiveCoordinator(LiveRole):
    """A coordinator, opened in `directory`, the folder of the configuration."""

    suite = "TestCoordinator"

    def __init__(self, opens: Open, directory: Path, hands: CoordinatorBackend | None = None) -> None:
        self.backend = LiveCoordinatorBackend(opens, hands)
        self.directory = directory

    def reach(self) -> None:
        """See `LiveRole`: the first word of an agent that would lead."""
        context = Candidates(self.backend, self.directory, LIVE_NAMES).context()
        hooks = hooks_of(self.backend.open(context))
        stop = Stop()
        try:
            lead = hooks.coordinator_lead(stop=stop)
            try:
                next(lead, None)
            finally:
                stop.set()
                lead.close()
        finally:
            hooks.coordinator_close()

    def tidy(self, *, thoroughly: bool = False) -> Iterator[str]:
        """See `LiveRole`; a lead is given up by who had it, or runs out."""
        del thoroughly
        yield from self.backend.tidy()

    def close(self) -> None:
        """See `LiveRole`."""
        self.backend.close()
