"""What an operator may ask of a running agent: the methods of the admin socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hamlet_core.agent.admin import Document, Method
from hamlet_core.agent.agent import Agent
from hamlet_core.agent.findings import state_findings
from hamlet_core.agent.leadership import Leadership
from hamlet_core.agent.preview import preview
from hamlet_core.agent.status import Reporter
from hamlet_core.api import Finding, HamletError, Severity
from hamlet_core.config import load
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.plugins.options import adapter_options
from hamlet_core.plugins.registry_port import RegistryPort

LOOK_AT_PEER = "ask the peer's operator whether its agent runs, lists us, and has our bundle and not another one"
LEAVE_WITHIN = timedelta(seconds=20)
"""How long `hamlet leave` waits for the registries before it says that they are still at it."""
METHODS = ("ping", "status", "services", "plan", "check", "confirm", "leave", "reload")
"""What may be asked."""
CHECK_WITHIN = 20.0
"""Seconds for the checks of the registries; who asks waits for little longer."""


class Control:
    """The methods, by name, over one agent."""

    def __init__(
        self,
        agent: Agent,
        reporter: Reporter,
        reload: Callable[[], Awaitable[None]],
        leadership: Leadership | None = None,
    ) -> None:
        self._agent = agent
        self._leadership = leadership
        self._reporter = reporter
        self._reload = reload

    def methods(self) -> Mapping[str, Method]:
        """What the admin socket serves."""
        return {
            "ping": self._ping,
            "status": self._status,
            "services": self._services,
            "plan": self._plan,
            "check": self._check,
            "confirm": self._confirm,
            "leave": self._leave,
            "reload": self._take_over,
        }

    async def _ping(self, request: Document) -> Document:
        del request
        return {"mesh": self._agent.config.mesh.name}

    async def _status(self, request: Document) -> Document:
        del request
        await self._reporter.refresh()
        return self._reporter.status()

    async def _services(self, request: Document) -> Document:
        peer = self._peer(request) if request.get("peer") else None
        return self._reporter.services(peer)

    async def _plan(self, request: Document) -> Document:
        loaded = load.read(Path(request["path"])) if request.get("path") else self._agent.loaded
        adapter_options(loaded)  # what a start would refuse is no plan
        document: Document = preview(self._agent, loaded.config)
        return document

    async def _check(self, request: Document) -> Document:
        del request
        agent = self._agent
        asked: list[tuple[str, RegistryPort | GatewayPort]] = list(agent.ports.items())
        asked += [(port.title, port) for port in agent.gateway.ports] if agent.gateway is not None else []
        checks = await asyncio.gather(*(_checked(port) for _, port in asked))
        adapters = [
            {"registry": name, **asdict(finding)}
            for (name, _), findings in zip(asked, checks, strict=True)
            for finding in findings
        ]
        own = agent.identity.findings(datetime.now(UTC), trust_domain=agent.config.mesh.trust_domain)
        own += [*self._links(), *state_findings(self._reporter.status()), *self._orphans()]
        own += await self._leadership.check() if self._leadership is not None else []
        return {"findings": [{"registry": "", **asdict(finding)} for finding in own] + adapters}

    def _links(self) -> list[Finding]:
        findings = []
        for name, peering in self._agent.peerings.items():
            up = bool(peering.streams)
            message = "linked" if up else f"not linked: {self._reporter.not_linked(name)}"
            severity = Severity.OK if up else Severity.WARNING
            mend = "" if up else peering.last_mend or LOOK_AT_PEER
            findings.append(Finding(subject=f"peer {name}", severity=severity, message=message, mend=mend))
        return findings

    def _orphans(self) -> list[Finding]:
        return [
            Finding(
                subject=f"peer {peer}",
                severity=Severity.WARNING,
                message="imports of this peer stand in a registry, and it is not in the configuration",
                mend=f"add it to peers, or let `hamlet leave {peer}` remove them",
            )
            for peer in self._orphaned_peers()
        ]

    def _orphaned_peers(self) -> list[str]:
        lanes = self._agent.importer.lanes
        return sorted({each.key.peer for lane in lanes for each in lane.reconciler.orphans()})

    async def _confirm(self, request: Document) -> Document:
        return {"peer": self._peer(request), "removed": self._agent.importer.confirm(self._peer(request))}

    async def _leave(self, request: Document) -> Document:
        peer = self._peer(request)
        configured = peer in self._agent.config.peers
        await self._agent.leave(peer)
        done = await self._agent.importer.emptied(peer, LEAVE_WITHIN)
        return {"peer": peer, "removed": done, "still_configured": configured}

    async def _take_over(self, request: Document) -> Document:
        del request
        await self._reload()
        return {"rotated": self._reporter.rotated}

    def _peer(self, request: Document) -> str:
        peer = str(request["peer"])
        known = {*self._agent.config.peers, *self._orphaned_peers()}
        if peer not in known:
            message = f"there is no peer {peer!r}; known are {', '.join(sorted(known)) or 'none'}"
            raise HamletError(message, mend="name one of them")
        return peer


async def _checked(port: RegistryPort | GatewayPort) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_WITHIN):
            return await port.check()
    except TimeoutError:
        message = f"no answer within {CHECK_WITHIN:g} s"
        return [Finding(subject=port.title, severity=Severity.ERROR, message=message, mend="is it up?")]
