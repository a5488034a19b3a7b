"""What a changed configuration would do: published, withdrawn, written, deleted. Nothing is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from hamlet_core.agent.agent import RELINK_KEYS, Agent
from hamlet_core.agent.fixed import needs_restart
from hamlet_core.api import FederatedService, WriteImport
from hamlet_core.config.model import Config, Peer
from hamlet_core.publish.policy import Policy

Document: TypeAlias = dict[str, Any]


def preview(agent: Agent, config: Config) -> Document:
    """The difference that `config` would make to the running agent, as rows sorted for reading.

    `restart` names the keys that only a restart can change; they are left out of the rest. `links` names the
    peers that are new or whose link would be made anew.
    """
    now = datetime.now(UTC)
    restart = needs_restart(agent.config, config)
    ingress = agent.gateway.ingress if agent.gateway is not None else None
    policy = Policy.of(config, ingress)
    if "gateway" in restart:
        running = Policy.of(agent.config, ingress)
        policy = replace(policy, ingress=running.ingress, gated=running.gated)
    return {
        "restart": restart,
        "links": [name for name, peer in config.peers.items() if _dials_anew(agent.config.peers.get(name), peer)],
        "publish": _difference(agent.publication.views, agent.publication.preview(policy, now).views),
        "imports": [
            {
                "action": "write" if isinstance(change, WriteImport) else "delete",
                "service": change.key.name,
                "peer": change.key.peer,
                "registry": lane.port.name,
            }
            for lane in agent.importer.lanes
            for change in lane.reconciler.rehearse(config, now)
        ],
    }


def _dials_anew(old: Peer | None, new: Peer) -> bool:
    return old is None or any(getattr(old, key) != getattr(new, key) for key in RELINK_KEYS)


_Views: TypeAlias = Mapping[str, Mapping[str, FederatedService]]


def _difference(old: _Views, new: _Views) -> list[Document]:
    rows = []
    for peer in sorted({*old, *new}):
        before, after = old.get(peer, {}), new.get(peer, {})
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                action = "publish" if name not in before else "withdraw" if name not in after else "change"
                rows.append({"action": action, "service": name, "peer": peer})
    return rows
