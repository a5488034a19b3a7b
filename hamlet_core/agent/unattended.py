"""What `hamlet check` finds where no agent answers: the options, the certificates, and what the gateways say.

The gateways are opened and asked; none is given anything, so nothing of a mesh changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from hamlet_core.api import AdapterContext, Finding, HamletError, Severity
from hamlet_core.config.driven import Egress, Gateway
from hamlet_core.config.load import Loaded
from hamlet_core.identity.source import IdentitySource
from hamlet_core.plugins import loader
from hamlet_core.plugins.loader import Plugins
from hamlet_core.plugins.opening import open_gateway
from hamlet_core.plugins.options import adapter_options


def findings(loaded: Loaded) -> list[Finding]:
    """All findings; blocks. Raises `ConfigProblems` for options that an adapter does not take, as a start does."""
    adapter_options(loaded)
    config = loaded.config
    source = IdentitySource(config.identity, config.peers)
    own = source.findings(datetime.now(UTC), trust_domain=config.mesh.trust_domain)
    return own + asyncio.run(_gateways(loaded))


async def _gateways(loaded: Loaded) -> list[Finding]:
    config = loaded.config
    configured: Mapping[str, Gateway | Egress | None] = {"gateway": config.way_in, "egress": config.egress}
    there = {key: settings for key, settings in configured.items() if settings is not None}
    if not there:
        return []
    plugins = loader.load(plugins=config.plugins, gateways={each.kind for each in there.values()})
    asked = (_gateway(key, settings, plugins, loaded) for key, settings in there.items())
    return [finding for found in await asyncio.gather(*asked) for finding in found]


async def _gateway(key: str, settings: Gateway | Egress, plugins: Plugins, loaded: Loaded) -> list[Finding]:
    mesh = loaded.config.mesh
    context = AdapterContext(
        name=key,
        mesh=mesh.name,
        domain=mesh.domain,
        trust_domain=mesh.trust_domain,
        directory=loaded.path.absolute().parent,
    )
    try:
        port = open_gateway(key, settings, plugins, context)
    except HamletError as error:
        subject = f"{key} ({settings.kind})"
        return [Finding(subject=subject, severity=Severity.ERROR, message=str(error), mend=error.mend)]
    try:
        return await port.check()
    finally:
        await port.close()
