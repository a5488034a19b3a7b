"""Finding plugins through the entry-point group `hamlet` and loading those that the configuration names.

Only what is named is imported, one entry point at a time: a plugin that is broken stops the start when it
is named, and never otherwise. It opens no adapter.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

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
from hamlet_core.plugins import newer
from hamlet_core.plugins.attribution import attributed, described
from hamlet_core.plugins.discovery import Found, discover, normal, one_line
from hamlet_core.plugins.registration import register
from hamlet_core.plugins.requirements import unmet

if TYPE_CHECKING:
    import click

_ROLES = get_args(Role)
_OLDEST = 1
"""The oldest version of the adapter API that is served; `API_VERSION` is the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One entry point of the group `hamlet`: what it provides, or why it, or a part of it, cannot be used.

    `provides` lists roles (`registry`, `gateway`, `coordinator`), `wrappers` and `commands`; the roles are those
    of `adapters`, and `commands` has the commands. `problem` is an empty string where there is none.
    """

    name: str
    distribution: str
    version: str
    provides: tuple[str, ...] = ()
    adapters: tuple[AdapterType, ...] = ()
    commands: tuple[click.Command, ...] = ()
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

        Raises what a plugin does that refuses on purpose, and `AdapterError` for one that fails to answer.
        """
        found: dict[str, object] = {}
        for name, plugin in self._manager.list_name_plugin():
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            ask = self._manager.subset_hook_caller("hamlet_wrappers", others)
            try:
                answers = ask(adapter=adapter)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                did = "refuses to wrap" if isinstance(error, HamletError) else "failed to say what wraps"
                raise attributed(f"plugin {name!r} {did} {adapter.role} {adapter.name!r}", error) from error
            if answers:
                found[name] = answers[0]
        return found


def load(
    kinds: Collection[str] = (),
    plugins: Collection[str] = (),
    *,
    gateways: Collection[str] = (),
    coordinators: Collection[str] = (),
) -> Plugins:
    """Load the registry adapters of `kinds`, the other adapters and the further `plugins`, and nothing else.

    Raises `ConfigError` for a name that no installed distribution provides and `AdapterError` for one that
    is broken, provided twice or made for another hamlet-core; both say what to do in `mend`.
    """
    manager = _new_manager()
    found = list(discover())
    wanted: dict[Role, Collection[str]] = {"registry": kinds, "gateway": gateways, "coordinator": coordinators}
    types: dict[Role, dict[str, AdapterType]] = {role: {} for role in wanted}
    for name in sorted({*kinds, *gateways, *coordinators, *plugins}):
        roles = [role for role, names in wanted.items() if name in names]
        candidates = _named(name, found)
        if not candidates:
            raise _not_installed(name, found, _names(found, roles), f"{roles[0]} kind" if roles else "plugin")
        for each in _load_one(manager, candidates)[1]:
            types[each.role][each.kind] = each
        for role in roles:
            if name not in types[role]:
                message = f"{candidates[0]} provides no {role} adapter, so no {role} can be of kind {name!r}"
                raise ConfigError(message, mend="name it under `plugins` if it is a wrapper")
    registries, doors, coordinating = (
        MappingProxyType(types[role]) for role in ("registry", "gateway", "coordinator")
    )
    return Plugins(registries, doors, manager, coordinating)


def installed(
    loading: Callable[[Found], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> list[PluginInfo]:
    """Describe every plugin there is, by name; each is loaded to be sure, in the context that `loading` gives.

    What one of them raises disturbs no other; one that hangs or ends the process does.
    """
    found = sorted(discover(), key=lambda each: (each.name, each.distribution))
    infos = []
    for each in found:
        with loading(each):
            infos.append(_describe(each, _named(each.name, found)))
    return infos


def _named(name: str, found: Sequence[Found]) -> list[Found]:
    """All that are called so and can be read; more than one is a mistake."""
    return [each for each in found if each.name == name and each.entry_point is not None]


def _describe(each: Found, namesakes: Sequence[Found]) -> PluginInfo:
    manager = _new_manager()
    provides: list[str] = []
    types: list[AdapterType] = []
    commands: tuple[click.Command, ...] = ()
    summary = problem = ""
    try:
        if each.entry_point is None:
            raise AdapterError(each.problem, mend=each.mend)
        module, types = _load_one(manager, namesakes)
        provides += [adapter.role for adapter in types]
        provides += ["wrappers"] if manager.hook.hamlet_wrappers.get_hookimpls() else []
        summary = next((adapter.summary for adapter in types), "")
        if manager.hook.hamlet_commands.get_hookimpls():
            commands = _commands(each, manager, module)
            provides.append("commands")
    except HamletError as error:
        problem = f"{error} ({error.mend})" if error.mend else str(error)
    return PluginInfo(
        name=each.name,
        distribution=each.distribution,
        version=each.version,
        provides=tuple(provides),
        adapters=tuple(types),
        commands=commands,
        summary=summary,
        problem=problem,
    )


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(AgentSpec)
    return manager


def _load_one(manager: pluggy.PluginManager, candidates: Sequence[Found]) -> tuple[object, list[AdapterType]]:
    """Import and register the one plugin that `candidates` should be; return it and its adapter types."""
    first = candidates[0]
    if len(candidates) > 1:
        listed = " and ".join(sorted(f"{each.distribution} {each.version}" for each in candidates))
        message = f"plugin {first.name!r} is provided by {listed}"
        raise AdapterError(message, mend="uninstall all of them but one")
    assert first.entry_point is not None
    for each in unmet(first.distribution):
        if each.about_core:  # before its code meets what is not there; it may say no other version
            message = f"{first} {each.said}"
            raise AdapterError(message, mend=f"{each.mend}, or {newer.made_for_this(first.distribution)}")
    with _faults_of(first, "cannot be imported", first.mend):
        module = first.entry_point.load()
    hooks = register(manager, module, first.name, described=str(first), distribution=first.distribution)
    if "hamlet_adapters" not in hooks:
        return module, []
    with _faults_of(first, "failed to say which adapters it provides"):
        types = _answer(manager, module, "hamlet_adapters")
        fault, mend = _fault(first, types)
    if fault:
        message = one_line(f"{first} {fault}")
        raise AdapterError(message, mend=mend)
    return module, types


@contextlib.contextmanager
def _faults_of(plugin: Found, failed: str, mend: str = "") -> Iterator[None]:
    """Whatever its code raises is a fault of the plugin; what it prints is no part of what we print."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"{plugin} {failed}: {one_line(described(error))}"
        if isinstance(error, HamletError):
            mend = error.mend or mend
        if newer.says_no_version(error):
            message = f"{plugin} does not say for which version of the adapter API it is made"
            mend = f"pip install --upgrade {plugin.distribution}; its author gives every AdapterType `api_version=1`"
        elif newer.lacks(error):
            message += newer.PERHAPS
            mend = newer.mend(plugin.distribution)
        raise AdapterError(message, mend=mend) from error


def _answer(manager: pluggy.PluginManager, module: object, hook: str) -> list[Any]:
    """What the plugin alone answers to a hook that wants a list."""
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    answers = manager.subset_hook_caller(hook, others)()
    if not answers:  # pluggy leaves None out
        message = f"{hook} returned None; a list is due"
        raise TypeError(message)
    return [each for answer in answers for each in answer]


def _fault(plugin: Found, types: Sequence[object]) -> tuple[str, str]:
    """How adapter types break the contract of `AdapterType`, and the mend; the version is looked at first."""
    for each in types:
        version = getattr(each, "api_version", None)
        if isinstance(version, int) and version > API_VERSION:
            made = f"is made for version {version} of the adapter API; this hamlet-core has {API_VERSION}"
            return made, "pip install --upgrade hamlet-core"
        if isinstance(version, int) and version < _OLDEST:
            made = f"is made for version {version} of the adapter API; this hamlet-core serves none before {_OLDEST}"
            return made, f"pip install --upgrade {plugin.distribution}"
        if not isinstance(each, AdapterType):
            return f"returns {each!r} from hamlet_adapters, which is no AdapterType", ""
        if each.kind != plugin.name:
            return f"provides an adapter of kind {each.kind!r}; the kind equals the entry point's name", ""
        wrong = {
            "options": (
                isinstance(each.options, type) and issubclass(each.options, AdapterOptions),
                "a model of AdapterOptions",
            ),
            "role": (each.role in _ROLES, f"one of {', '.join(_ROLES)}"),
            "open": (callable(each.open), "a function"),
            "summary": (isinstance(each.summary, str), "a text"),
            "api_version": (isinstance(version, int), "a number"),
            "backend": (isinstance(each.backend, str), "module:factory"),
        }
        for attribute, (right, due) in wrong.items():
            if not right:
                return f"gives its kind {attribute}={getattr(each, attribute)!r}; {due} is due", ""
    roles = [each.role for each in types if isinstance(each, AdapterType)]
    for role in roles:
        if roles.count(role) > 1:
            return f"provides the {role} of kind {plugin.name!r} {roles.count(role)} times", ""
    return "", ""


def _commands(plugin: Found, manager: pluggy.PluginManager, module: object) -> tuple[click.Command, ...]:
    """The commands that it adds. Raises `AdapterError` for one that fails to say so, or adds what is none."""
    import click

    with _faults_of(plugin, "failed to say which commands it adds"):
        commands = _answer(manager, module, "hamlet_commands")
        fault = next((repr(each) for each in commands if not isinstance(each, click.Command) or not each.name), "")
    if fault:
        message = one_line(f"{plugin} returns {fault} from hamlet_commands, which is no click.Command with a name")
        raise AdapterError(message)
    return tuple(commands)


def _names(found: Sequence[Found], roles: Sequence[Role]) -> list[str]:
    """What of `found` could be meant: all of it, or where there is a role, what has it; only loading it tells."""
    usable = {each.name for each in installed() if roles[0] in each.provides} if roles else None
    sound = {each.name for each in found if each.entry_point is not None}
    return sorted(sound if usable is None else sound & usable)


def _not_installed(name: str, found: Sequence[Found], known: Sequence[str], what: str) -> ConfigError:
    """Nobody provides it; what cannot be read may be what should."""
    damaged = [each for each in found if each.entry_point is None]
    close = difflib.get_close_matches(name, known, n=1)
    message = "; ".join(
        [
            f"{what} {name!r} is not installed; installed: {', '.join(known) or 'none'}",
            *(each.problem for each in damaged),
        ]
    )
    ways = [f"write {close[0]!r}"] if close else []
    ways += [f"if it is of {each.distribution}: {each.mend}" for each in damaged]
    if not close and normal(f"{PROJECT}-{name}") not in {normal(each.distribution) for each in damaged}:
        ways.append(f"install the distribution that provides it, by convention `pip install {PROJECT}-{name}`")
    return ConfigError(message, mend="; or ".join(ways))
