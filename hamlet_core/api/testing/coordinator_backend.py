"""What the coordinator contract needs to know of a backend, beside the adapter: how others act on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

from hamlet_core.api import AdapterContext


class CoordinatorBackend(ABC):
    """A backend of one test, in which nobody leads yet, and the hands of everybody but the adapter.

    `ttl` are the seconds for which a lead counts in the backend without being renewed, at least: what is done at once
    takes but a part of them, and a few checks last for two or three.
    """

    ttl: float

    @abstractmethod
    def open(self, context: AdapterContext) -> object:
        """Open a new adapter on this backend, as another agent does."""

    @abstractmethod
    def cut(self, adapter: object) -> AbstractContextManager[None]:
        """Take the backend from this adapter alone, as a broken cable does: it can neither ask nor tell anything.

        No word comes back, which is harder than a refusal (`Relay.silence`). The checks count threads and sockets, so
        relays are made before they begin, a few that are given out in turn, and not one with each adapter.
        """

    @abstractmethod
    def add_foreign(self, context: AdapterContext) -> str:
        """Put something of someone else where this agent's lead would stand; return what names it.

        The hardest there is to tell from ours: in our own form, if that can be, with another's mark or none.
        """

    def remove_foreign(self, context: AdapterContext) -> None:
        """Take out again what `add_foreign` put there for this agent; gone already is no error.

        Only a backend that outlives the checks needs it (`hamlet verify-adapter`).
        """
        where = f"mesh {context.mesh} of {context.trust_domain}"
        message = f"{type(self).__name__} has no remove_foreign, and cannot take out what is in the way of {where}"
        raise NotImplementedError(message)

    @abstractmethod
    def entries(self) -> Mapping[str, object]:
        """Everything that stands in the backend, by whatever names it, in a form that shows each change."""

    def close(self) -> None:  # noqa: B027 - most need none
        """Take out what is left of it, and release everything; `hamlet verify-adapter` calls it once, at the end."""
