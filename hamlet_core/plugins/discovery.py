"""Finding plugins: the entry points of the group `hamlet`, distribution by distribution. It imports none of them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass

GROUP = "hamlet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry point, and the distribution that declares it.

    Where those of a distribution cannot be read, `entry_point` is None, `name` is the distribution's and
    `problem` says why.
    """

    name: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint | None
    problem: str = ""

    @property
    def mend(self) -> str:
        """What helps where it is damaged."""
        return f"pip install --force-reinstall {self.distribution}"

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


def discover() -> Iterator[Found]:
    """Every entry point of our group; a distribution that is damaged hides no other, and no plugin of its own.

    (`importlib.metadata.entry_points` reads them all in one go and fails as a whole.)
    """
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            ours = _ours(distribution)
            fault: Exception | None = None
        except Exception as error:  # noqa: BLE001 - whatever a damaged file leads to; it is reported
            if isinstance(error, UnicodeDecodeError) and f"[{GROUP}]".encode() not in error.object:
                continue  # it is damaged, and no plugin
            ours, fault = [], error
        if not ours and fault is None:
            continue
        name, version = _identity(distribution)
        if normal(name) in seen:  # the first on sys.path is the one that is imported
            continue
        seen.add(normal(name))
        if fault is not None:
            problem = f"the entry points of {name} {version} cannot be read: {cause(fault)}"
            yield Found(name=name, distribution=name, version=version, entry_point=None, problem=problem)
        for each in ours:
            yield Found(name=each.name, distribution=name, version=version, entry_point=each)


def _ours(distribution: importlib.metadata.Distribution) -> list[importlib.metadata.EntryPoint]:
    if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
        return []  # what others declare is not even parsed
    return [each for each in distribution.entry_points if each.group == GROUP]


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


def normal(name: str) -> str:
    """The name of a distribution as names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def cause(error: BaseException) -> str:
    """An error as part of a sentence, on one line."""
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def one_line(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())
