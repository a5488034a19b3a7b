"""Which port each way of calling an imported service has. It decides only: who has one keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Ports by name of the way; `last` is the one given last, `without` are those for whom none was left."""

    ports: Mapping[str, int]
    last: int
    without: frozenset[str]


def allocate(
    wanted: Iterable[str], before: Mapping[str, int], allowed: range, last: int, is_free: Callable[[int], bool]
) -> Allocation:
    """Give each of `wanted` a port: the one it had, else the next one after `last` that nobody has and that is free.

    So a port that was given up is the last to be given again: someone may still believe that its former service is
    there. A port outside `allowed` (the range was changed) is given up. `is_free` is asked for new ones alone.
    """
    names = sorted(set(wanted))
    ports = {name: before[name] for name in names if before.get(name, -1) in allowed}
    taken = set(ports.values())
    begin = last - allowed.start + 1 if last in allowed else 0
    candidates = (port for port in (*allowed[begin:], *allowed[:begin]) if port not in taken and is_free(port))
    without = set()
    for name in names:
        if name not in ports:
            port = next(candidates, None)
            if port is None:
                without.add(name)
            else:
                ports[name] = last = port
    return Allocation(ports=ports, last=last, without=frozenset(without))
