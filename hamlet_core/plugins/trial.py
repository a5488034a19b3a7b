"""Opening every configured adapter without an agent: whether it can be, and has the hooks of its role.

No agent that runs meanwhile is disturbed: that is what `AdapterType.open` promises, and `hamlet_wrappers` of the
plugins that stand around the adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from hamlet_core.api import HamletError
from hamlet_core.config.load import Loaded
from hamlet_core.config.values import Loc
from hamlet_core.plugins.coordinator_port import CoordinatorPort
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.plugins.loader import load
from hamlet_core.plugins.opening import open_coordinator, open_gateway, open_registry
from hamlet_core.plugins.registry_port import RegistryPort


@dataclass(frozen=True, slots=True)
class Opening:
    """A configured adapter: where in hamlet.yaml, what messages call it, and what opens it as an agent would."""

    loc: Loc
    title: str
    open: Callable[[], RegistryPort | GatewayPort | CoordinatorPort]


def openings(loaded: Loaded) -> Iterator[Opening]:
    """Every adapter that `loaded` configures. Raises `HamletError` where the plugin of one cannot be loaded."""
    config = loaded.config
    gateways = {
        key: each for key, each in (("gateway", config.way_in), ("egress", config.egress)) if each is not None
    }
    coordinator = config.coordinator
    plugins = load(
        {registry.kind for registry in config.registries.values()},
        config.plugins,
        gateways={gateway.kind for gateway in gateways.values()},
        coordinators={coordinator.kind} if coordinator is not None else (),
    )
    for name, registry in config.registries.items():
        opened = partial(open_registry, name, registry, plugins, loaded.context(name))
        yield Opening(("registries", name), f"registry {name!r} ({registry.kind})", opened)
    for key, gateway in gateways.items():
        led = partial(open_gateway, key, gateway, plugins, loaded.context(key))
        yield Opening((key,), f"{key} ({gateway.kind})", led)
    if coordinator is not None:
        asked = partial(open_coordinator, coordinator, plugins, loaded.context("coordinator"))
        yield Opening(("coordinator",), f"coordinator ({coordinator.kind})", asked)


async def faults(loaded: Loaded) -> dict[Loc, HamletError]:
    """What is wrong with the adapters; each is opened and closed, and those that are sound are not in it."""
    found: dict[Loc, HamletError] = {}
    for each in openings(loaded):
        try:
            port = each.open()
        except HamletError as error:
            found[each.loc] = error
        else:
            await port.close()
    return found
