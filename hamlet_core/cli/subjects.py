"""What of a kind a configuration has that can be verified, and who acts on its backend. It opens no adapter."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hamlet_core.api import AdapterContext, AdapterOptions, AdapterType, ConfigError, Role
from hamlet_core.api.testing import CoordinatorBackend, GatewayBackend, RegistryBackend
from hamlet_core.api.testing.live_coordinator import LiveCoordinator
from hamlet_core.api.testing.live_gateway import LiveGateway
from hamlet_core.api.testing.live_registry import LiveRegistry
from hamlet_core.api.testing.live_role import LiveRole
from hamlet_core.api.testing.names import LIVE_NAMES
from hamlet_core.config.values import Loc
from hamlet_core.plugins.attribution import attributed
from hamlet_core.plugins.coordinator_port import CoordinatorPort
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.plugins.loader import load
from hamlet_core.plugins.opening import validate_options
from hamlet_core.plugins.registry_port import RegistryPort

if TYPE_CHECKING:
    from hamlet_core.config.load import Loaded

Hands = RegistryBackend | GatewayBackend | CoordinatorBackend
_BACKENDS: Mapping[Role, type[Hands]] = {
    "registry": RegistryBackend,
    "gateway": GatewayBackend,
    "coordinator": CoordinatorBackend,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the configuration has something of a kind: `key` is `main` for a registry, `gateway` or `egress`."""

    role: Role
    key: str
    kind: str

    @property
    def loc(self) -> Loc:
        """Its place in the file."""
        return ("registries", self.key) if self.role == "registry" else (self.key,)

    def __str__(self) -> str:
        what = f"registry {self.key}" if self.role == "registry" else self.key
        return f"{what} ({self.kind})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something to verify: its place, adapter and options, and the backend that acts on it, if there is one.

    `backend` is `module:factory`, and `shipped` says that the plugin brings it.
    """

    place: Place
    adapter: AdapterType
    options: AdapterOptions
    directory: Path
    backend: str = ""
    shipped: bool = False

    def live(self) -> LiveRole:
        """What the checks need of it. Raises `ConfigError` where its backend cannot be made."""
        hands = make(self) if self.backend else None

        def opens(context: AdapterContext) -> object:
            return self.adapter.open(self.options, context)

        if self.place.role == "registry":
            assert hands is None or isinstance(hands, RegistryBackend)
            return LiveRegistry(opens, self.directory, hands)
        if self.place.role == "coordinator":
            assert hands is None or isinstance(hands, CoordinatorBackend)
            return LiveCoordinator(opens, self.directory, hands)
        assert hands is None or isinstance(hands, GatewayBackend)
        return LiveGateway(opens, self.directory, hands, key=self.place.key)


def subjects(
    loaded: Loaded, kind: str, *, role: Role | None, registry: str | None, backend: str | None, alone: bool
) -> list[Subject]:
    """What of `kind` the configuration has, in its order; narrowed by `role`, or to one `registry`.

    `backend` takes the place of what the plugin ships, and with `alone` nothing acts on the backend. Raises
    `ConfigError` for what is not there, and `AdapterError` for a broken plugin.
    """
    chosen = _chosen(loaded, kind, role, registry)
    roles = {place.role for place in chosen}
    if backend and len(roles) > 1:
        message = f"--backend is for one role, and {' and '.join(map(str, chosen))} would be verified"
        raise ConfigError(message, mend="say with --role which of them")
    plugins = load(
        [kind] if "registry" in roles else (),
        gateways=[kind] if "gateway" in roles else (),
        coordinators=[kind] if "coordinator" in roles else (),
    )
    adapters: Mapping[Role, Mapping[str, AdapterType]] = {
        "registry": plugins.adapters,
        "gateway": plugins.gateways,
        "coordinator": plugins.coordinators,
    }
    found = []
    for place in chosen:
        adapter = adapters[place.role][kind]
        shipped = "" if alone else adapter.backend
        found.append(
            Subject(
                place=place,
                adapter=adapter,
                options=_options(loaded, place, adapter),
                directory=loaded.path.absolute().parent,
                backend=backend or shipped,
                shipped=not backend and bool(shipped),
            )
        )
    return found


def require_hooks(loaded: Loaded, found: Sequence[Subject]) -> None:
    """Raise `HamletError` where an adapter does not open, lacks a hook or has one that fits none: it is said once.

    Each is opened once, as an agent would open it, and closed.
    """

    async def opened(subject: Subject) -> None:
        adapter = subject.adapter.open(subject.options, loaded.context(subject.place.key))
        if subject.place.role == "registry":
            await RegistryPort(subject.place.key, subject.adapter, adapter).close()
        elif subject.place.role == "gateway":
            await GatewayPort(subject.place.key, subject.adapter, adapter).close()
        else:
            await CoordinatorPort(subject.adapter, adapter).close()

    for each in found:
        try:
            asyncio.run(opened(each))
        except Exception as error:
            raise attributed(str(each.place), error) from error


def refuse_names_in_use(loaded: Loaded) -> None:
    """Raise `ConfigError` where a real peer is called as those are that the checks write of."""
    if taken := sorted({LIVE_NAMES.peer, LIVE_NAMES.other_peer} & set(loaded.config.peers)):
        message = f"{taken[0]!r} is the name of a peer here, and of what the checks write"
        raise ConfigError(message, where=loaded.locate(("peers", taken[0])), mend="verify with another configuration")


def make(subject: Subject) -> Hands:
    """Make what acts on the backend, as `module:factory` says. Raises `ConfigError`."""
    import pytest

    wanted = _BACKENDS[subject.place.role]
    module, _, attribute = subject.backend.partition(":")
    whose = ""
    if subject.shipped:
        whose = f" that the plugin {subject.place.kind!r} ships for its {subject.place.role}"
        mend = "install another version of the plugin, name a backend with --backend, or do without: --no-backend"
    else:
        mend = "write --backend module:factory, for example tests.backend:make"
        sys.path.insert(0, str(Path.cwd()))
    try:
        made: object = getattr(importlib.import_module(module), attribute)(subject.options)
    except (Exception, pytest.skip.Exception) as error:  # no check is under way that it could leave out
        message = f"the backend {subject.backend!r}{whose} cannot be made: {type(error).__name__}: {error}"
        raise ConfigError(message, mend=mend) from error
    if not isinstance(made, wanted):
        needed = f"hamlet_core.api.testing.{wanted.__name__}"
        message = f"the backend {subject.backend!r}{whose} is {made!r:.100} and no {needed}"
        raise ConfigError(message, mend=mend)
    return made


def _chosen(loaded: Loaded, kind: str, role: Role | None, registry: str | None) -> list[Place]:
    every = list(_places(loaded))
    listed = ", ".join(map(str, every))
    where = loaded.locate("registries")
    if registry is not None:
        if role not in {None, "registry"}:
            message = f"--registry {registry} names a registry, and --role {role} leaves them out"
            raise ConfigError(message, mend="give one of the two")
        named = [each for each in every if each.role == "registry" and each.key == registry]
        if not named or named[0].kind != kind:
            problem = f"is of kind {named[0].kind!r}, not {kind!r}" if named else "is not there"
            message = f"registry {registry!r} {problem}; there are: {listed}"
            raise ConfigError(message, where=where, mend="name one of them with --registry")
        return named
    found = [each for each in every if each.kind == kind and role in {None, each.role}]
    if not found:
        what = f"no {role}" if role else "nothing"
        message = f"{what} is of kind {kind!r}; there are: {listed}"
        raise ConfigError(
            message, where=where, mend=f"add a {role or 'registry, gateway or coordinator'} of that kind"
        )
    return found


def _places(loaded: Loaded) -> Iterator[Place]:
    """What plugins stand behind, in the order in which an agent opens it."""
    config = loaded.config
    for name, registry in config.registries.items():
        yield Place(role="registry", key=name, kind=registry.kind)
    if config.way_in is not None:
        yield Place(role="gateway", key="gateway", kind=config.way_in.kind)
    if config.egress is not None:
        yield Place(role="gateway", key="egress", kind=config.egress.kind)
    if config.coordinator is not None:
        yield Place(role="coordinator", key="coordinator", kind=config.coordinator.kind)


def _options(loaded: Loaded, place: Place, adapter: AdapterType) -> AdapterOptions:
    """Its options, as the agent reads them."""
    config = loaded.config
    section = (
        config.registries[place.key]
        if place.role == "registry"
        else {"gateway": config.gateway, "egress": config.egress, "coordinator": config.coordinator}[place.key]
    )
    assert section is not None
    loaded.options(place.loc, section.options, adapter.options)  # what is wrong with them is told with file and line
    return validate_options(place.loc, section.options, adapter, loaded.path.absolute().parent)
