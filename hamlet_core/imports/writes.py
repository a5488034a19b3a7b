"""The changes given to a registry: in flight, rejected, to be tried again. It does not decide what to change."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from hamlet_core import backoff
from hamlet_core.api import ImportChange, ImportKey, Outcome, Status, WriteImport
from hamlet_core.imports.status import Retried

RETRY_CAP = 60.0
"""Longest delay, in seconds, between two attempts at one change."""

_Form: TypeAlias = tuple[bool, str, str]


def _form(change: ImportChange) -> _Form:
    """What makes two changes of one key the same attempt."""
    if isinstance(change, WriteImport):
        return (True, change.service.local_name, change.service.digest)
    return (False, change.local_name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """A change that the registry did not take: `due` is when to try it again, None for never."""

    form: _Form
    reason: str
    attempts: int = 0
    due: datetime | None = None


class Writes:
    """What a registry was asked and what it answered, by key; one change of a key is in flight at a time."""

    def __init__(self) -> None:
        self._in_flight: dict[ImportKey, ImportChange] = {}
        self._failed: dict[ImportKey, _Failure] = {}
        self._due: list[tuple[datetime, ImportKey]] = []
        self._retried: dict[ImportKey, Retried] = {}

    def in_flight(self, key: ImportKey) -> bool:
        """Whether a change of `key` was given out and has no outcome yet."""
        return key in self._in_flight

    def may_try(self, change: ImportChange, now: datetime) -> bool:
        """Whether to give out `change`: nothing of its key is in flight, and it was not refused as it is."""
        if change.key in self._in_flight:
            return False
        failure = self._failed.get(change.key)
        if failure is None or failure.form != _form(change):
            return True
        return failure.due is not None and failure.due <= now

    def take(self, change: ImportChange) -> None:
        """`change` is given out."""
        self._in_flight[change.key] = change

    def settle(self, outcome: Outcome, now: datetime) -> ImportChange | None:
        """Take the outcome of the change in flight and return that change; None when there is none."""
        change = self._in_flight.pop(outcome.key, None)
        if change is None:
            return None
        before, retried = self._failed.pop(outcome.key, None), self._retried.pop(outcome.key, None)
        if outcome.status is Status.REJECTED:
            self._failed[outcome.key] = _Failure(form=_form(change), reason=outcome.reason)
        elif outcome.status is Status.RETRY:
            attempts = before.attempts if before is not None else 0
            due = now + timedelta(seconds=backoff.delay(attempts, RETRY_CAP))
            self._failed[outcome.key] = _Failure(
                form=_form(change), reason=outcome.reason, attempts=attempts + 1, due=due
            )
            since = now if retried is None else retried.since
            self._retried[outcome.key] = Retried(since=since, reason=outcome.reason)
            heapq.heappush(self._due, (due, outcome.key))
        return change

    def due(self, now: datetime) -> list[ImportKey]:
        """The keys whose change is to be tried again by `now`; each is returned once."""
        keys = []
        while self._due and self._due[0][0] <= now:
            when, key = heapq.heappop(self._due)
            if self._waits(key, when):
                keys.append(key)
        return keys

    def next_due(self) -> datetime | None:
        """When the next change is to be tried again."""
        while self._due and not self._waits(self._due[0][1], self._due[0][0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _waits(self, key: ImportKey, when: datetime) -> bool:
        failure = self._failed.get(key)
        return failure is not None and failure.due == when

    def rejection(self, key: ImportKey) -> str | None:
        """Why the registry will never take the last change of `key`; None when that is not so."""
        failure = self._failed.get(key)
        return failure.reason if failure is not None and failure.due is None else None

    def retry(self, key: ImportKey) -> str | None:
        """Why the last change of `key` is to be tried again; None when that is not so."""
        failure = self._failed.get(key)
        return failure.reason if failure is not None and failure.due is not None else None

    def retried(self, key: ImportKey) -> Retried | None:
        """Since when changes of `key`, which may differ, are tried in vain; None when that is not so."""
        return self._retried.get(key)

    def rejected_keys(self) -> tuple[ImportKey, ...]:
        """Every key whose last change was rejected."""
        return tuple(key for key, failure in self._failed.items() if failure.due is None)

    def forget(self, key: ImportKey) -> None:
        """What failed about `key` no longer matters: another change of it is due."""
        self._failed.pop(key, None)

    def done(self, key: ImportKey) -> None:
        """Nothing is to be done about `key`: it matters neither what failed, nor for how long."""
        self.forget(key)
        self._retried.pop(key, None)
