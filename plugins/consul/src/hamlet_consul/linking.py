"""Reads and writes what a terminating gateway needs of Consul: its config entry, protocols, names. Decides nothing.

The entry is shared with others, so each write names the index that it was decided at; what someone else wrote in
between is read, and the decision made anew.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from consul import base

from hamlet_consul.client import Client
from hamlet_consul.entries import GATEWAY, PEER, TRUST_DOMAIN, entry_from, key_of
from hamlet_consul.errors import ConsulDenied
from hamlet_consul.links import Link, Standing
from hamlet_consul.naming import join_value, node_name
from hamlet_core.api import AdapterContext, ImportKey, RegistryUnavailable

KIND, DEFAULTS = "terminating-gateway", "service-defaults"
ATTEMPTS = 8
"""Writes of the entry before others, who keep writing it in between, are let alone for a while."""
PAUSE = 0.02
"""Seconds to wait at most after the first write that failed; after each further one as much longer."""
_HISTORY = ("CreateIndex", "ModifyIndex")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linking:
    """One terminating gateway in one Consul. Every call raises `RegistryUnavailable` when Consul is out of reach."""

    client: Client
    context: AdapterContext
    gateway: str

    def standing(self) -> dict[ImportKey, Standing]:
        """The imports that registries of this mesh hold in this Consul."""
        found: dict[ImportKey, Standing] = {}
        for node in self.client.nodes({TRUST_DOMAIN: self.context.trust_domain}).data or ():
            if not node["Node"].startswith(node_name(self.context.mesh, "")):
                continue
            data = self.client.node_services(node["Node"]).data or {}
            peer = (node.get("Meta") or {}).get(PEER, "")
            for entry in map(entry_from, data.get("Services") or ()):
                key = key_of(entry, peer)
                if key is not None:
                    found[key] = Standing(entry.name, join_value(entry.meta, "fqdn"))
        return found

    def listed(self) -> frozenset[str]:
        """Every name in the catalog."""
        return frozenset(self.client.services().data or ())

    def require_sight(self) -> None:
        """Raise `ConsulDenied` where the token hides names or entries: a link could then lead anywhere."""
        wanted = [("node", "", "read"), ("service", "", "read"), ("operator", "", "write")]
        denied = self.client.denied(wanted)
        if denied:
            said = ", ".join(f"{kind}:{access}" for kind, _, access in denied)
            message = f"the token lacks {said}, without which the terminating gateway cannot be led"
            raise ConsulDenied(message, mend="`hamlet check` prints the policy that is needed")

    def change(self, decide: Callable[[Sequence[Link]], Sequence[Link]], *, create: bool = True) -> None:
        """Have the entry's links as `decide` makes them of those that are there; `create` it where there is none."""
        for attempt in range(ATTEMPTS):
            if attempt:  # two that write in step would keep failing each other
                time.sleep(random.uniform(0, PAUSE * attempt))  # noqa: S311 - spreading load, no secret
            entry = self.client.config.get(KIND, self.gateway)
            present = list((entry or {}).get("Services") or ())
            links = list(decide(present))
            if links == present and (entry is not None or not links):
                return
            if entry is None and not create:
                return
            index = entry["ModifyIndex"] if entry else 0
            kept = {key: value for key, value in (entry or {}).items() if key not in _HISTORY}
            if self.client.config.put({**kept, "Kind": KIND, "Name": self.gateway, "Services": links}, cas=index):
                return
        message = (
            f"the config entry {KIND}/{self.gateway} was changed by others {ATTEMPTS} times while it was written"
        )
        raise RegistryUnavailable(message, mend="look who keeps writing it; it is tried again")

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Every `service-defaults` entry by its name."""
        return {entry["Name"]: entry for entry in self.client.service_defaults().data or ()}

    def set_protocols(self, standing: Mapping[str, dict[str, Any]], wanted: Mapping[str, str]) -> dict[str, str]:
        """Write the protocols that are `wanted` by name, and return why one could not be.

        An entry of someone else stands as it is, which is how an operator says otherwise.
        """
        faults: dict[str, str] = {}
        for name, protocol in wanted.items():
            entry = standing.get(name)
            if entry is not None and (not self.is_ours(entry) or entry.get("Protocol") == protocol):
                continue
            made = {"Kind": DEFAULTS, "Name": name, "Protocol": protocol, "Meta": self._mark()}
            try:
                self.client.config.put(made, cas=entry["ModifyIndex"] if entry else 0)
            except ConsulDenied:
                raise
            except (
                RegistryUnavailable
            ) as error:  # other entries may contradict it; as bytes the service is called still
                faults[name] = str(error)
        return faults

    def drop_protocols(self, standing: Mapping[str, dict[str, Any]], keep: Callable[[str], bool]) -> None:
        """Remove our `service-defaults`, but for those of the names to `keep`."""
        for name, entry in standing.items():
            if self.is_ours(entry) and not keep(name):
                # Before 1.11 Consul takes no notice of `cas` here: an edit of the last milliseconds is then lost.
                params = [("cas", entry["ModifyIndex"])]
                self.client.http.delete(base.CB.json(), path=f"/v1/config/{DEFAULTS}/{name}", params=params)

    def is_ours(self, entry: Mapping[str, Any]) -> bool:
        """Whether a `service-defaults` entry carries our mark."""
        return self._mark().items() <= (entry.get("Meta") or {}).items()

    def _mark(self) -> dict[str, str]:
        return {TRUST_DOMAIN: self.context.trust_domain, GATEWAY: self.gateway}
