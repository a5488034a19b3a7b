"""What `hamlet check` finds where no agent answers: options, adapters, certificates, and what the gateways say.

Every adapter is opened, and the gateways are asked; none is given anything, so nothing of a mesh changes.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from hamlet_core.api import Finding, HamletError, Severity
from hamlet_core.config.load import Loaded
from hamlet_core.identity.source import IdentitySource
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.plugins.options import adapter_options
from hamlet_core.plugins.trial import Opening, openings


def findings(loaded: Loaded) -> list[Finding]:
    """All findings; blocks. Raises `ConfigProblems` for options that an adapter does not take, as a start does."""
    adapter_options(loaded)
    config = loaded.config
    source = IdentitySource(config.identity, config.peers)
    own = source.findings(datetime.now(UTC), trust_domain=config.mesh.trust_domain)
    return own + asyncio.run(_adapters(loaded))


async def _adapters(loaded: Loaded) -> list[Finding]:
    return [finding for said in await asyncio.gather(*map(_adapter, openings(loaded))) for finding in said]


async def _adapter(opening: Opening) -> list[Finding]:
    try:
        port = opening.open()
    except HamletError as error:
        return [Finding(subject=opening.title, severity=Severity.ERROR, message=str(error), mend=error.mend)]
    try:
        return await port.check() if isinstance(port, GatewayPort) else []
    finally:
        await port.close()
