"""The wrapper: sees what the core asks of a registry, and what the adapter answers. It changes neither."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from hamlet_audit.trail import Trail
from hamlet_core.api import ImportChange, Outcome, Wrapped, WriteImport, hookimpl


class Audit:
    """Around the hooks of one registry that write."""

    def __init__(self, adapter: Wrapped, trail: Trail) -> None:
        self._registry = {"registry": adapter.name, "kind": adapter.kind}
        self._trail = trail

    @hookimpl(wrapper=True)
    def registry_apply(
        self, changes: Sequence[ImportChange]
    ) -> Generator[None, Sequence[Outcome], Sequence[Outcome]]:
        """Note every change with its outcome; all have failed when the call has."""
        try:
            outcomes = yield
        except BaseException as error:
            self._note([{**_asked(change), "outcome": "failed", "reason": _said(error)} for change in changes])
            raise
        # An adapter that gives too few outcomes is at fault, and the core will say so; the trail has the changes.
        answers = zip_longest(changes, outcomes[: len(changes)])
        self._note([{**_asked(change), **_answered(outcome)} for change, outcome in answers])
        return outcomes

    @hookimpl(wrapper=True)
    def registry_mark_peer(self, peer: str, lost_since: datetime | None) -> Generator[None, bool, bool]:
        """Note that a peer was recorded as lost, or as back."""
        mark = {"action": "mark_peer", "peer": peer, "lost_since": lost_since and lost_since.isoformat()}
        try:
            done = yield
        except BaseException as error:
            self._note([{**mark, "outcome": "failed", "reason": _said(error)}])
            raise
        self._note([{**mark, "outcome": "applied", "reason": ""}])
        return done

    def _note(self, lines: Sequence[dict[str, object]]) -> None:
        time = datetime.now(UTC).isoformat()
        self._trail.append({"time": time, **self._registry, **line} for line in lines)


def _asked(change: ImportChange) -> dict[str, object]:
    """What the core asked for."""
    about = {"peer": change.key.peer, "service": change.key.name}
    if isinstance(change, WriteImport):
        service = change.service
        return {"action": "write", **about, "local_name": service.local_name, "digest": service.digest}
    return {"action": "remove", **about, "local_name": change.local_name}


def _answered(outcome: Outcome | None) -> dict[str, object]:
    """What the adapter said."""
    if outcome is None:
        return {"outcome": "failed", "reason": "the adapter gave no outcome"}
    return {"outcome": outcome.status.value, "reason": outcome.reason}


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
