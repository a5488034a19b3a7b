"""Registering one object with pluggy, strictly: what pluggy lets pass in silence is an error here."""

from __future__ import annotations

import pluggy

from hamlet_core.api import AdapterError


def register(manager: pluggy.PluginManager, plugin: object, name: str, *, described: str) -> frozenset[str]:
    """Register `plugin` under `name` and return the names of the hooks it implements.

    Refused with `AdapterError`, whose message begins with `described`: a hook that does not exist (a
    misspelt one), one with arguments that it does not have, one with default arguments (pluggy never
    passes those), and an object without any hook. What was refused leaves no trace in `manager`.
    """
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except Exception as error:
        _forget(manager, name)
        message = f"{described} does not fit the hooks of Hamlet: {_first_line(error)}"
        raise AdapterError(message, mend="compare its hooks with hamlet_core.api.hookspecs") from error
    impls = [impl for caller in manager.get_hookcallers(plugin) or () for impl in _impls(caller, plugin)]
    fault = ""
    if not impls:
        fault = "implements no hook; each implementation carries @hookimpl of hamlet_core.api"
    for name_of_hook, impl in impls:
        if impl.kwargnames:
            fault = f"gives defaults to {', '.join(impl.kwargnames)} of {name_of_hook}; pluggy never passes those"
    if fault:
        _forget(manager, name)
        message = f"{described} {fault}"
        raise AdapterError(message)
    return frozenset(name_of_hook for name_of_hook, _ in impls)


def _impls(caller: pluggy.HookCaller, plugin: object) -> list[tuple[str, pluggy.HookImpl]]:
    return [(caller.name, impl) for impl in caller.get_hookimpls() if impl.plugin is plugin]


def _forget(manager: pluggy.PluginManager, name: str) -> None:
    """Take a plugin out again; pluggy before 1.7 leaves it half in when its registration fails."""
    if manager.has_plugin(name):
        manager.unregister(name=name)


def _first_line(error: Exception) -> str:
    """The sentence of an error of pluggy's, without the listings that follow it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
