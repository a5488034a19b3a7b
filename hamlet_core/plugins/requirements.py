"""What an installed distribution requires and has not got: pip lets that pass once something else is installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion


def unmet(distribution: str) -> Iterator[str]:
    """Each requirement of its own that is not met, as a sentence with its mend. What its extras want is left out.

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
        wanted = f"{requirement.name}{requirement.specifier}"
        yield f"it needs {wanted}, and {there or 'none'} is installed (pip install '{wanted}')"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name) or ""
    except (importlib.metadata.PackageNotFoundError, KeyError):  # newer Pythons raise the latter without a version
        return ""
