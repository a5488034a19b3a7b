"""What an installed distribution requires and has not got: pip lets that pass once something else is installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from hamlet_core import __version__
from hamlet_core.plugins.discovery import normal

_CORE = "hamlet-core"


@dataclass(frozen=True, slots=True)
class Unmet:
    """A requirement that is not met: the distribution, the versions of it that would do, and what is there."""

    name: str
    versions: str
    there: str

    @property
    def about_core(self) -> bool:
        """Whether it is the hamlet-core that does not fit."""
        return normal(self.name) == _CORE

    @property
    def said(self) -> str:
        """What is the case, to go after the name of whose requirement it is."""
        return f"needs {self.name}{self.versions}, and {self.there or 'none'} is installed"

    @property
    def mend(self) -> str:
        """What helps."""
        return f"pip install '{self.name}{self.versions}'"


def unmet(distribution: str) -> Iterator[Unmet]:
    """Each requirement of its own that is not met. What its extras want is left out.

    Metadata that cannot be read say nothing here.
    """
    try:
        declared = importlib.metadata.distribution(distribution).requires or []
    except Exception:  # noqa: BLE001 - whatever a damaged file leads to; that it is damaged is told elsewhere
        return
    for text in declared:
        try:
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            there = _version(requirement.name)
            if there and requirement.specifier.contains(there, prereleases=True):
                continue
        except (InvalidRequirement, InvalidVersion):
            continue
        yield Unmet(requirement.name, str(requirement.specifier), there)


def _version(name: str) -> str:
    if normal(name) == _CORE:
        return __version__  # this one, whatever the metadata say
    try:
        return importlib.metadata.version(name) or ""
    except (importlib.metadata.PackageNotFoundError, KeyError):  # newer Pythons raise the latter without a version
        return ""
