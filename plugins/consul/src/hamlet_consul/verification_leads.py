"""What others do to the store of a Consul, for the contract of a coordinator: `hamlet verify-adapter` imports it.

Each agent has a way of its own that can fall silent. The keys are those of meshes that nobody else leads.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import AbstractContextManager

from hamlet_consul.coordinator import ConsulCoordinator, ConsulCoordinatorOptions
from hamlet_consul.verification_way import Cable, Hand
from hamlet_core.api import AdapterContext
from hamlet_core.api.testing import LIVE_NAMES, CoordinatorBackend, Names

CABLES = 6
"""Ways of a coordinator's agents into Consul, given out in turn: more than there are agents at one time."""


class LeadBackend(CoordinatorBackend):
    """The store of a Consul, which may be in use. A `lock` of the options is left out: it is the real agents'."""

    def __init__(self, options: ConsulCoordinatorOptions, *, names: Names = LIVE_NAMES) -> None:
        self.ttl = options.ttl.total_seconds()
        self._options = options.model_copy(update={"lock": ""})
        self._hand = Hand(options, names)
        self._cables = [Cable(options) for _ in range(CABLES)]  # made before a check counts what is open
        self._given: dict[object, Cable] = {}
        self._opened: set[tuple[str, str]] = set()

    def open(self, context: AdapterContext) -> object:
        """See `CoordinatorBackend`; what killed checks have left goes before the first of a mesh is opened."""
        if (context.trust_domain, context.mesh) not in self._opened:
            self._opened.add((context.trust_domain, context.mesh))
            self._delete(_key(context.trust_domain, context.mesh))
        cable = self._cables.pop(0)
        self._cables.append(cable)
        adapter = ConsulCoordinator(cable.through(self._options), context)
        self._given = {known: way for known, way in self._given.items() if way is not cable} | {adapter: cable}
        return adapter

    def cut(self, adapter: object) -> AbstractContextManager[None]:
        """See `CoordinatorBackend`."""
        return self._given[adapter].silence()

    def add_foreign(self, context: AdapterContext) -> str:
        """See `CoordinatorBackend`; a lock of the checks that has not run out yet goes first."""
        key = _key(context.trust_domain, context.mesh)
        self._delete(key)
        value = base64.b64encode(b"somebody's").decode()
        self._hand.transact({"KV": {"Verb": "set", "Key": key, "Value": value}})
        self._opened.add((context.trust_domain, context.mesh))
        return key

    def remove_foreign(self, context: AdapterContext) -> None:
        """See `CoordinatorBackend`."""
        self._delete(_key(context.trust_domain, context.mesh))

    def entries(self) -> Mapping[str, object]:
        """See `CoordinatorBackend`: the keys of the checks in full."""
        keys = [_key(*each) for each in sorted(self._opened)]
        return {key: found for key in keys if (found := self._hand.get(f"/v1/kv/{key}")) is not None}

    def close(self) -> None:
        """See `CoordinatorBackend`: an agent leaves its key, and one that was cut off its session."""
        try:
            for trust_domain, mesh in sorted(self._opened):
                self._delete(_key(trust_domain, mesh))
            if self._opened:
                self._end_sessions(tuple(f"hamlet, who leads mesh {mesh}, on " for _, mesh in self._opened))
        finally:
            for cable in self._cables:
                cable.close()
            self._hand.client.close()

    def _end_sessions(self, named: tuple[str, ...]) -> None:
        for session in self._hand.get("/v1/session/list") or ():
            if session["Name"].startswith(named):
                self._hand.put(f"/v1/session/destroy/{session['ID']}")

    def _delete(self, key: str) -> None:
        self._hand.transact({"KV": {"Verb": "delete", "Key": key}})


def _key(trust_domain: str, mesh: str) -> str:
    return f"hamlet/{trust_domain}/{mesh}/leader"
