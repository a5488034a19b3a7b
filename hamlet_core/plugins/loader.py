"""Finding plugins through the entry-point group `hamlet` and loading those that the configuration names.

Only what is named is imported, one entry point at a time: a plugin that is broken stops the start when it
is named, and never otherwise. It opens no adapter.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args

import pluggy

from hamlet_core.api import (
    API_VERSION,
    PROJECT,
    AdapterError,
    AdapterOptions,
    AdapterType,
    AgentSpec,
    ConfigError,
    HamletError,
    Role,
    Wrapped,
)
from hamlet_core.plugins.registration import register

if TYPE_CHECKING:
    import click

GROUP = "hamlet"
_ROLES = get_args(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One entry point of the group `hamlet`, for a person: what it provides, or why it cannot be used.

    `provides` lists roles (`registry`, `gateway`, `coordinator`), `wrappers` and `commands`; `problem` is an
    empty string where there is none.
    """

    name: str
    distribution: str
    version: str
    provides: tuple[str, ...] = ()
    summary: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Plugins:
    """What was loaded: the adapter types of each role by their kind, and whom to ask for wrappers."""

    adapters: Mapping[str, AdapterType]
    gateways: Mapping[str, AdapterType]
    _manager: pluggy.PluginManager
    coordinators: Mapping[str, AdapterType] = field(default_factory=dict)

    def wrappers(self, adapter: Wrapped) -> dict[str, object]:
        """Ask every loaded plugin for what is to stand around `adapter`; by the plugin's name.

        Raises `AdapterError` when a plugin fails to answer.
        """
        found: dict[str, object] = {}
        for name, plugin in self._manager.list_name_plugin():
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            ask = self._manager.subset_hook_caller("hamlet_wrappers", others)
            try:
                answers = ask(adapter=adapter)
            except Exception as error:
                message = f"plugin {name!r} failed to say what wraps {adapter.role} {adapter.name!r}: {_cause(error)}"
                raise AdapterError(message) from error
            if answers:
                found[name] = answers[0]
        return found

    def commands(self) -> list[click.Command]:
        """The commands that the loaded plugins add to `hamlet`; raises `AdapterError` when one fails to answer."""
        try:
            return [command for answer in self._manager.hook.hamlet_commands() for command in answer]
        except Exception as error:
            names = ", ".join(repr(name) for name, _ in self._manager.list_name_plugin())
            message = f"plugin {names} failed to say which commands it adds: {_cause(error)}"
            raise AdapterError(message) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An entry point, and the distribution that declares it."""

    name: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint | None
    problem: str = ""

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


def load(
    kinds: Collection[str] = (),
    plugins: Collection[str] = (),
    *,
    gateways: Collection[str] = (),
    coordinators: Collection[str] = (),
) -> Plugins:
    """Load the registry adapters of `kinds`, the other adapters and the further `plugins`, and nothing else.

    Raises `ConfigError` for a name that no installed distribution provides and `AdapterError` for one that
    is broken, provided twice or made for a newer Hamlet; both say what to do in `mend`.
    """
    manager = _new_manager()
    found = list(_discover())
    wanted: dict[Role, Collection[str]] = {"registry": kinds, "gateway": gateways, "coordinator": coordinators}
    types: dict[Role, dict[str, AdapterType]] = {role: {} for role in wanted}
    for name in sorted({*kinds, *gateways, *coordinators, *plugins}):
        roles = [role for role, names in wanted.items() if name in names]
        candidates = [each for each in found if each.name == name]
        if not candidates:
            raise _not_installed(name, _names(found, roles), f"{roles[0]} kind" if roles else "plugin")
        for each in _load_one(manager, candidates):
            types[each.role][each.kind] = each
        for role in roles:
            if name not in types[role]:
                message = f"{candidates[0]} provides no {role} adapter, so no {role} can be of kind {name!r}"
                raise ConfigError(message, mend="name it under `plugins` if it is a wrapper")
    registries, doors, coordinating = (
        MappingProxyType(types[role]) for role in ("registry", "gateway", "coordinator")
    )
    return Plugins(registries, doors, manager, coordinating)


def installed() -> list[PluginInfo]:
    """Describe every plugin there is, by name; each is loaded to be sure, and none can disturb another."""
    found = sorted(_discover(), key=lambda each: (each.name, each.distribution))
    return [_describe(each, [other for other in found if other.name == each.name]) for each in found]


def _describe(each: _Found, namesakes: Sequence[_Found]) -> PluginInfo:
    manager = _new_manager()
    provides: list[str] = []
    summary = problem = ""
    try:
        types = _load_one(manager, namesakes)
        provides += [adapter.role for adapter in types]
        provides += ["wrappers"] if manager.hook.hamlet_wrappers.get_hookimpls() else []
        provides += ["commands"] if manager.hook.hamlet_commands.get_hookimpls() else []
        summary = next((adapter.summary for adapter in types), "")
    except HamletError as error:
        problem = f"{error} ({error.mend})" if error.mend else str(error)
    return PluginInfo(
        name=each.name,
        distribution=each.distribution,
        version=each.version,
        provides=tuple(provides),
        summary=summary,
        problem=problem,
    )


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(AgentSpec)
    return manager


def _discover() -> Iterator[_Found]:
    """Every entry point of our group, distribution by distribution: one that is damaged hides no other.

    (`importlib.metadata.entry_points` reads them all in one go and fails as a whole.)
    """
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
            continue
        name, version = _identity(distribution)
        if name.lower().replace("_", "-") in seen:  # the first on sys.path is the one that is imported
            continue
        seen.add(name.lower().replace("_", "-"))
        try:
            ours = [each for each in distribution.entry_points if each.group == GROUP]
        except Exception as error:  # noqa: BLE001 - whatever a damaged file leads to; it is reported
            problem = f"the entry points of {name} {version} cannot be read: {_cause(error)}"
            yield _Found(name=name, distribution=name, version=version, entry_point=None, problem=problem)
            continue
        for each in ours:
            yield _Found(name=each.name, distribution=name, version=version, entry_point=each)


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Name and version; of an installation that lost its metadata, the name of what is left of it."""
    name: str | None
    version: str | None
    try:
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
    except Exception:  # noqa: BLE001 - newer Pythons raise where older ones return None
        name = version = None
    folder = str(getattr(distribution, "_path", "unknown")).rpartition("/")[2]
    return name or folder.partition("-")[0] or "unknown", version or "(unknown version)"


def _load_one(manager: pluggy.PluginManager, candidates: Sequence[_Found]) -> list[AdapterType]:
    """Import and register the one plugin that `candidates` should be, and return its adapter types."""
    first = candidates[0]
    if len(candidates) > 1:
        listed = " and ".join(f"{each.distribution} {each.version}" for each in candidates)
        message = f"plugin {first.name!r} is provided by {listed}"
        raise AdapterError(message, mend="uninstall all of them but one")
    if first.entry_point is None:
        raise AdapterError(first.problem, mend=f"pip install --force-reinstall {first.distribution}")
    try:
        module = first.entry_point.load()
    except (Exception, SystemExit) as error:
        message = f"{first} cannot be imported: {_cause(error)}"
        raise AdapterError(message, mend=f"pip install --force-reinstall {first.distribution}") from error
    register(manager, module, first.name, described=str(first))
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    try:
        answers = manager.subset_hook_caller("hamlet_adapters", others)()
        types = [each for answer in answers for each in answer]
        _validate(first, types)
    except AdapterError:
        manager.unregister(name=first.name)
        raise
    except Exception as error:
        manager.unregister(name=first.name)
        message = f"{first} failed to say which adapters it provides: {_cause(error)}"
        raise AdapterError(message) from error
    return types


def _validate(plugin: _Found, types: Sequence[object]) -> None:
    """Refuse adapter types that break the contract of `AdapterType`; the version is looked at first."""
    for each in types:
        version = getattr(each, "api_version", None)
        if isinstance(version, int) and version > API_VERSION:
            message = f"{plugin} is made for version {version} of the adapter API; this hamlet-core has {API_VERSION}"
            raise AdapterError(message, mend="pip install --upgrade hamlet-core")
        if not isinstance(each, AdapterType):
            message = f"{plugin} returns {each!r} from hamlet_adapters, which is no AdapterType"
            raise AdapterError(message)
        if each.kind != plugin.name:
            message = f"{plugin} provides an adapter of kind {each.kind!r}; the kind equals the entry point's name"
            raise AdapterError(message)
        if not (isinstance(each.options, type) and issubclass(each.options, AdapterOptions)):
            message = f"{plugin}: the options of kind {each.kind!r}, {each.options!r}, are no AdapterOptions"
            raise AdapterError(message)
        if each.role not in _ROLES:
            message = f"{plugin}: kind {each.kind!r} has the role {each.role!r}; there are {', '.join(_ROLES)}"
            raise AdapterError(message)
    roles = [each.role for each in types if isinstance(each, AdapterType)]
    for role in roles:
        if roles.count(role) > 1:
            message = f"{plugin} provides the {role} of kind {plugin.name!r} {roles.count(role)} times"
            raise AdapterError(message)


def _names(found: Sequence[_Found], roles: Sequence[Role]) -> list[str]:
    """What of `found` could be meant: all of it, or where there is a role, what has it; only loading it tells."""
    usable = {each.name for each in installed() if roles[0] in each.provides} if roles else None
    return sorted({each.name for each in found if usable is None or each.name in usable})


def _not_installed(name: str, known: Sequence[str], what: str) -> ConfigError:
    close = difflib.get_close_matches(name, known, n=1)
    message = f"{what} {name!r} is not installed; installed: {', '.join(known) or 'none'}"
    install = f"install the distribution that provides it, by convention `pip install hamlet-{name}`"
    return ConfigError(message, mend=f"write {close[0]!r}" if close else install)


def _cause(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
