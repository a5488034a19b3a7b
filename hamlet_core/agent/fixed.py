"""What of a configuration only a restart can change, and what of that is but another value behind a reference.

A password that was rotated (`password: file:redis.pw`) is no reason to refuse the rest of a change: it waits for
the restart, and what was opened with the earlier one goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel

from hamlet_core.api import HamletError
from hamlet_core.config.model import Config
from hamlet_core.config.problems import dotted
from hamlet_core.config.references import Referenced
from hamlet_core.config.values import Loc

FIXED_KEYS = ("mesh", "listen", "admin", "registries", "coordinator", "plugins", "log")
"""The keys of the configuration that only a restart can change; a plugin's gateway is another."""


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys in which the two differ, as they are written, and that only a restart can change."""
    return [key for key, found in _differences(old, new) if any(not rotated for _, rotated in found)]


def rotated(old: Config, new: Config) -> list[str]:
    """The values (`registries.main.password`) that only a restart can take, since a reference gives another one."""
    return [dotted(loc) for _, found in _differences(old, new) for loc, rotated in found if rotated]


def rotated_in(old: object, new: object, loc: Loc) -> list[str]:
    """As `rotated`, of a part of it that stands at `loc`."""
    return [dotted(at) for at, rotated in _unlike(old, new, loc) if rotated]


def refuse_fixed(old: Config, new: Config) -> None:
    """Raise `HamletError` where only a restart can change what the two differ in, as they are written."""
    fixed = needs_restart(old, new)
    if fixed:
        message = (
            f"{', '.join(fixed)} cannot change while the agent runs; nothing of the new configuration is in force"
        )
        raise HamletError(message, mend="restart the agent: it loses and deletes nothing")


def with_fixed(old: Config, new: Config) -> Config:
    """Return `new`, which `refuse_fixed` let pass, with what only a restart can change as it is in `old`."""
    kept = [*FIXED_KEYS, "egress", *(["gateway"] if old.way_in is not None else [])]
    return new.model_copy(update={key: getattr(old, key) for key in kept})


def _differences(old: Config, new: Config) -> Iterator[tuple[str, list[tuple[Loc, bool]]]]:
    for key in FIXED_KEYS:
        yield key, list(_unlike(getattr(old, key), getattr(new, key), (key,)))
    yield "gateway", list(_unlike(old.way_in, new.way_in, ("gateway",)))
    yield "egress", list(_unlike(old.egress, new.egress, ("egress",)))


def _unlike(old: object, new: object, loc: Loc) -> Iterator[tuple[Loc, bool]]:
    """Where two values differ; True where the same reference gives another value."""
    if old == new:
        return
    if isinstance(old, Referenced) and isinstance(new, Referenced):
        yield loc, old.reference == new.reference
        return
    parts, others = _parts(old), _parts(new)
    if parts is None or others is None or type(old) is not type(new) or parts.keys() != others.keys():
        yield loc, False
        return
    for key, part in parts.items():
        yield from _unlike(part, others[key], (*loc, key))


def _parts(value: object) -> Mapping[str | int, object] | None:
    """What a value consists of; None for one without parts."""
    if isinstance(value, BaseModel | Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return dict(enumerate(value))
    return None
