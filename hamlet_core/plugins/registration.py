"""Registering one object with pluggy, strictly: what pluggy lets pass in silence is an error here."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pluggy

from hamlet_core.api import AdapterError
from hamlet_core.plugins import newer
from hamlet_core.plugins.discovery import cause


def register(
    manager: pluggy.PluginManager, plugin: object, name: str, *, described: str, distribution: str = ""
) -> frozenset[str]:
    """Register `plugin` under `name` and return the names of the hooks it implements.

    Refused with `AdapterError`, whose message begins with `described`: a hook that does not exist (a
    misspelt one), one with arguments that it does not have, one with default arguments (pluggy never
    passes those), and an object without any hook. What was refused leaves no trace in `manager`.
    `distribution` is whose the plugin is, where that is known.
    """
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except Exception as error:
        # What else it raises is the plugin's own, and would come again: one whose attributes cannot be looked at.
        misfits = list(_misfits(manager, plugin)) if isinstance(error, pluggy.PluginValidationError) else []
        said = "; ".join(str(each) for each in misfits) or cause(error)
        _forget(manager, name)
        message = f"{described} does not fit the hooks of Hamlet: {said}"
        mend = "the page Hooks of the documentation (docs/hooks.md) has every hook and its arguments"
        if any(each.unknown for each in misfits):
            message += newer.PERHAPS
            mend += f"; where it is newer: {newer.mend(distribution)}"
        raise AdapterError(message, mend=mend) from error
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


@dataclass(frozen=True, slots=True)
class _Misfit:
    """What does not fit, and whether it is something that these hooks do not have, and others may."""

    said: str
    unknown: bool = True

    def __str__(self) -> str:
        return self.said


def _misfits(manager: pluggy.PluginManager, plugin: object) -> Iterator[_Misfit]:
    """Each implementation that does not fit, and why; pluggy names the first, in a listing of several lines."""
    arguments = {name: hook.spec.argnames for name, hook in vars(manager.hook).items() if hook.spec is not None}
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is None:
            continue
        hook = options["specname"] or attribute
        method = getattr(plugin, attribute)
        taken = pluggy.HookImpl(plugin, "", method, options).argnames
        if hook not in arguments:
            close = difflib.get_close_matches(hook, arguments, n=1)
            yield _Misfit(f"{hook} ({_place(method)}) is no hook" + (f", {close[0]} is" if close else ""))
        elif set(taken) - set(arguments[hook]):
            given = ", ".join(arguments[hook]) or "nothing"
            yield _Misfit(f"{hook} ({_place(method)}) takes {', '.join(taken)}, and is given {given}")
        elif (options["wrapper"] or options["hookwrapper"]) and not inspect.isgeneratorfunction(method):
            yield _Misfit(f"{hook} ({_place(method)}) is a wrapper without a yield", unknown=False)


def _place(method: Callable[..., object]) -> str:
    """Where it is written: class, file and line."""
    code = getattr(inspect.unwrap(method), "__code__", None)
    name: str = getattr(method, "__qualname__", repr(method))
    return f"{name} in {code.co_filename}, line {code.co_firstlineno}" if code else name
