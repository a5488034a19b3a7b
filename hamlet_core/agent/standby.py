"""An agent that does not lead: it opens nothing of its mesh, and answers its operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial

import structlog

from hamlet_core import __version__
from hamlet_core.agent.admin import Document, Method
from hamlet_core.agent.findings import rotated_findings
from hamlet_core.agent.fixed import refuse_fixed, rotated
from hamlet_core.agent.leadership import Leadership
from hamlet_core.agent.status import coordination, stamp, unusable
from hamlet_core.agent.supervise import Supervisor
from hamlet_core.api import HamletError
from hamlet_core.config.load import Loaded
from hamlet_core.identity.source import IdentitySource
from hamlet_core.plugins.options import adapter_options

log = structlog.get_logger()

LEADING_ONLY = ("plan", "confirm", "leave")
"""What only the agent that leads can be asked."""


class Standby:
    """Waits for the lead with one configuration, whose certificates it follows."""

    def __init__(self, loaded: Loaded, leadership: Leadership) -> None:
        self.loaded = loaded
        self.started = datetime.now(UTC)
        self.supervisor = Supervisor()
        self.identity = IdentitySource(loaded.config.identity, loaded.config.peers)
        self._leadership = leadership

    @property
    def rotated(self) -> list[str]:
        """As `Agent.rotated`: the coordinator is all that is open."""
        return self._leadership.rotated(self.loaded.config)

    @property
    def not_ready(self) -> str:
        """Why it does not serve its mesh."""
        return self._leadership.why_not or "about to lead"

    async def start(self) -> None:
        """Follow the certificates; raises `HamletError` where ours is unusable."""
        self.identity.credentials  # noqa: B018 - who cannot serve must not stand by either
        self.supervisor.start("certificates", lambda: self.identity.watch(lambda: None))
        log.info("standing by", mesh=self.loaded.config.mesh.name)

    async def stop(self) -> None:
        """Let go of the files."""
        await self.supervisor.stop_all()

    def tick(self) -> None:
        """Nothing here has states."""

    async def reload(self, loaded: Loaded) -> None:
        """Have another configuration ready for when this agent leads; as `Agent.reload`."""
        refuse_fixed(self.loaded.config, loaded.config)
        if rotated(self.loaded.config, loaded.config):
            adapter_options(loaded)  # it must not find out what is wrong only when it has to lead
        self.identity.configure(loaded.config.identity, loaded.config.peers)
        self.loaded = loaded
        log.info("configuration taken over", path=str(loaded.path))

    def status(self) -> Document:
        """As `Reporter.status`, of an agent that has opened nothing."""
        config = self.loaded.config
        return {
            "version": __version__,
            "mesh": config.mesh.name,
            "domain": config.mesh.domain,
            "trust_domain": config.mesh.trust_domain,
            "listen": config.listen,
            "started": stamp(self.started),
            "ready": False,
            "not_ready": self.not_ready,
            "identity_expires": stamp(self.identity.credentials.not_after),
            "unusable": unusable(self.identity),
            "coordinator": coordination(self._leadership),
            "registries": [],
            "gateway": None,
            "egress": None,
            "peers": [],
            "left": [],
            "unpublished": [],
            "orphans": [],
            "refused_callers": 0,
            "last_refusal": "",
            "last_refusal_at": None,
            "rotated": self.rotated,
            "crashes": dict(self.supervisor.crashes),
        }

    def methods(self, reload: Callable[[], Awaitable[None]]) -> Mapping[str, Method]:
        """What the admin socket serves meanwhile."""

        async def status(request: Document) -> Document:
            del request
            return self.status()

        async def ping(request: Document) -> Document:
            del request
            return {"mesh": self.loaded.config.mesh.name}

        async def services(request: Document) -> Document:
            del request
            return {"published": [], "imported": []}

        async def take_over(request: Document) -> Document:
            del request
            await reload()
            return {"rotated": self.rotated}

        return {
            "ping": ping,
            "status": status,
            "services": services,
            "check": self._check,
            "reload": take_over,
            **{method: partial(self._refuse, method) for method in LEADING_ONLY},
        }

    async def _check(self, request: Document) -> Document:
        del request
        own = self.identity.findings(datetime.now(UTC), trust_domain=self.loaded.config.mesh.trust_domain)
        own += [*rotated_findings(self.rotated), *await self._leadership.check()]
        return {"findings": [{"registry": "", **asdict(finding)} for finding in own]}

    async def _refuse(self, method: str, request: Document) -> Document:
        del request
        message = f"{method} is for the agent that leads; this one is {self.not_ready}"
        raise HamletError(message, mend="ask the agent that leads")
