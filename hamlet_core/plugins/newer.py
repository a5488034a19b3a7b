"""What a plugin that is made for a newer hamlet-core runs into where this one lacks what it uses.

It happens before anybody can ask for which version it is made, and looks like a fault of the plugin.
"""

from __future__ import annotations

import re
from types import ModuleType

from hamlet_core import __version__, api

PERHAPS = f"; it may be made for a newer hamlet-core than {__version__}"
"""Ends the sentence about what this hamlet-core lacks."""

_CORE = api.__name__.partition(".")[0]
_UNEXPECTED = re.compile(r"(\w+)\S*\(\) got an unexpected keyword argument")


def mend(distribution: str = "") -> str:
    """What helps against it; `distribution` is whose the plugin is, where that is known."""
    return f"pip install --upgrade hamlet-core, or {made_for_this(distribution)}"


def made_for_this(distribution: str = "") -> str:
    """The other way out: the plugin as it fits the hamlet-core that is there."""
    return f"install the version of {distribution or 'its distribution'} that is made for hamlet-core {__version__}"


def lacks(error: BaseException) -> bool:
    """Whether `error` says that this hamlet-core has no such module, name, or argument of what it exports."""
    if isinstance(error, ImportError):
        return _of_core(error.name or "")
    if isinstance(error, AttributeError):
        owner = error.obj
        return isinstance(owner, ModuleType | type) and _of_core(
            owner.__module__ if isinstance(owner, type) else owner.__name__
        )
    unexpected = _UNEXPECTED.match(str(error)) if isinstance(error, TypeError) else None
    return unexpected is not None and unexpected[1] in api.__all__


def says_no_version(error: BaseException) -> bool:
    """Whether it is about an `AdapterType` without `api_version`, and nothing else."""
    lacking = "AdapterType.__init__() missing 1 required keyword-only argument: 'api_version'"
    return isinstance(error, TypeError) and str(error) == lacking


def _of_core(module: str) -> bool:
    return module.partition(".")[0] == _CORE
