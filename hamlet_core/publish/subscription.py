"""A consumer's place in the log of its audience: a cursor, and after a move a bounded list of names.

It does no I/O: who sends takes entries, and is called when there are new ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from hamlet_core.api import HamletError
from hamlet_core.publish.log import Entry, Log

if TYPE_CHECKING:
    from hamlet_core.publish.catalog import Catalog


class SubscriptionEnded(HamletError):
    """Nothing more can be taken from a subscription that was closed or has become stale."""


class Subscription:
    """What a stream holds: how far it has read. Made by `Catalog.subscribe`.

    A new one stands before the first entry, and so takes the full catalog and then the changes by one and
    the same rule. It skips intermediate states: of each name only the latest one is there to be taken.

    The walk through the catalog is complete when `caught_up` is True for the first time: at that moment each
    service of the view has been taken. That the cursor has reached `start`, the version the catalog had at
    the beginning, would not do: a service that changes during the walk moves behind `start`, and one
    that was there all the time would be missing. Where changes come faster than they are taken it never is
    complete, and the consumer infers no removal, which is the safe side.

    `on_change` is called synchronously whenever something new can be taken, and when the subscription has
    become stale; it must be cheap (set an event), must not raise, and may be called more than once.
    """

    def __init__(self, catalog: Catalog, audience: str, log: Log, version: int) -> None:
        self.audience = audience
        self.on_change: Callable[[], None] | None = None
        self._catalog = catalog
        self._log = log
        self._start = version
        self._cursor = 0
        self._backlog: OrderedDict[str, None] = OrderedDict()
        self._stale = False
        self._closed = False
        log.readers.add(self)

    @property
    def start(self) -> int:
        """The catalog's version when the subscription began, or last moved."""
        return self._start

    @property
    def stale(self) -> bool:
        """Whether a removal that it may have needed is gone from the log: it must be closed.

        The consumer then dials again and walks the full catalog.
        """
        return self._stale

    @property
    def size(self) -> int:
        """How many services the audience is offered."""
        return self._log.live

    @property
    def passed(self) -> int:
        """No tombstone up to this version is still needed: read, or older than the subscription.

        A tombstone from before `start` concerns a service that was gone before the first entry was taken, so
        a walk from the beginning skips it, and does not care whether the log still has it.
        """
        return max(self._cursor, self._start)

    @property
    def caught_up(self) -> bool:
        """Whether everything there is has been taken; False for a stale one."""
        return not self._stale and not self._backlog and self._next() is None

    @property
    def lag(self) -> int:
        """How many services, removals included, are still to be taken. It walks over what is left: O(lag)."""
        moved = sum(1 for name in self._backlog if not self._in_log(name))
        return moved + sum(1 for _, entry in self._log.after(self._cursor) if self._needs(entry))

    def take(self, limit: int) -> list[Entry]:
        """Take the next entries, at most `limit`: those of a move first, then the log in version order.

        `SubscriptionEnded` for a closed or stale one: going on would lose a removal silently.
        """
        if self._closed or self._stale:
            state = "closed" if self._closed else "stale: a removal it needed is no longer kept"
            message = f"the subscription to audience {self.audience} is {state}"
            raise SubscriptionEnded(message, mend="close the stream; the consumer subscribes anew")
        before = self.passed
        taken: list[Entry] = []
        while self._backlog and len(taken) < limit:
            name, _ = self._backlog.popitem(last=False)
            if not self._in_log(name):
                taken.append(self._state(name))
        while len(taken) < limit and (entry := self._next()) is not None:
            self._cursor = entry.version
            taken.append(entry)
        self._log.advanced(before, self.passed)
        return taken

    def current(self, name: str) -> Entry | None:
        """The latest state of a service taken before, for sending it again after a NACK.

        A service that is gone comes as a removal, whether or not the log still remembers it. None when a
        newer state is still to be taken: sending again is pointless, that one replaces it.
        """
        return None if name in self._backlog or self._in_log(name) else self._state(name)

    def move(self, audience: str) -> None:
        """Read another view from now on (the policy changed), beginning with the difference of the two.

        What is new or different comes first, then what is only in the old view and was, or may have
        been, taken; states that were taken and are the same in both do not come again. The names are
        kept, not the states: at most as many as both views have, however often it moves.
        """
        if self._closed or self._stale or audience == self.audience:
            return
        old, new = self._log, self._catalog.log(audience)
        upserts = [
            name
            for name, entry in new.entries.items()
            if entry.payload is not None and not (self._settled(name) and old.entries[name].payload == entry.payload)
        ]
        held = [name for name, entry in old.entries.items() if self._may_hold(entry)]
        gone = [
            name
            for name in dict.fromkeys([*self._backlog, *held])
            if (entry := new.entries.get(name)) is None or entry.payload is None
        ]
        old.readers.discard(self)
        old.drop_passed()
        left, self.audience = self.audience, audience
        self._log, self._backlog = new, OrderedDict.fromkeys([*upserts, *gone])
        self._cursor = self._start = self._catalog.version
        new.readers.add(self)
        self._catalog.left(left)
        if self._backlog:
            self.changed()

    def close(self) -> None:
        """Leave: what was kept for this subscription alone can go. Closing twice is harmless."""
        self._closed = True
        self._backlog.clear()
        self._log.readers.discard(self)
        self._log.drop_passed()
        self._catalog.left(self.audience)

    def changed(self) -> None:
        """Tell who waits that something is there. For the log."""
        if self.on_change is not None:
            self.on_change()

    def fall_behind(self) -> None:
        """Become stale. For the log."""
        self._stale = True
        self._backlog.clear()
        self.changed()

    def _next(self) -> Entry | None:
        """The next entry of the log to take; the cursor moves over what need not be taken, once and for all."""
        for version, entry in self._log.after(self._cursor):
            if self._needs(entry):
                return entry
            self._cursor = version
        return None

    def _needs(self, entry: Entry | None) -> bool:
        """Whether an entry after the cursor must be taken."""
        return entry is not None and (entry.payload is not None or entry.version > self._start)

    def _in_log(self, name: str) -> bool:
        """Whether the log will bring the latest state of `name`, since it is after the cursor."""
        entry = self._log.entries.get(name)
        return entry is not None and entry.version > self._cursor and self._needs(entry)

    def _settled(self, name: str) -> bool:
        """Whether exactly the log's state of `name` was taken, and no other is under way."""
        return name in self._log.entries and name not in self._backlog and not self._in_log(name)

    def _may_hold(self, entry: Entry) -> bool:
        """Whether the consumer may hold some state of the service that the log has `entry` of.

        A service that has not changed since `start` and lies after the cursor was never taken. One that
        changed since may have been taken before it did.
        """
        if entry.payload is None:
            return entry.version > self.passed
        return entry.version <= self._cursor or entry.version > self._start

    def _state(self, name: str) -> Entry:
        return self._log.entries.get(name) or Entry(self._cursor, name, None)
