"""What the contract suite needs to know of a backend, beside the adapter: how others act on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

from hamlet_core.api import AdapterContext, ImportedService, LocalService


class RegistryBackend(ABC):
    """A backend of one test, empty at first, and the hands of everybody but the adapter.

    The adapter is looked at through its hooks alone; these methods are the owner of a service, a person
    with an editor, another program, and the cable that somebody pulls.
    """

    @abstractmethod
    def open(self, context: AdapterContext) -> object:
        """Open a new adapter on this backend, as a (re)started agent does."""

    @abstractmethod
    def add_local(self, service: LocalService) -> str:
        """Register a service of the mesh, or replace it; return the name the adapter must report it under."""

    def reported(self, service: LocalService) -> LocalService:
        """What the adapter must report of `service`, its name aside: all of it, unless a registry cannot hold it all.

        One that has no place for descriptions, say, returns the service without. Labels of the registry's own may
        be reported beside these.
        """
        return service

    @abstractmethod
    def remove_local(self, name: str) -> None:
        """Deregister the service that was added with this `LocalService.name`; gone already is no error."""

    @abstractmethod
    def add_foreign(self, service: ImportedService) -> str:
        """Put an entry of someone else where `service` would be written; return what names it in a reason.

        It is there whole or not at all, however short one looks. Where an entry of the adapter stands already,
        what the backend lets others do is done: that entry is replaced, another stands beside it, or
        `FileExistsError` is raised, and nothing has changed.
        """

    def remove_foreign(self, service: ImportedService) -> None:
        """Take out again what `add_foreign` put there for `service`, or a part of it; gone already is no error.

        Only a backend that outlives the checks needs it (`hamlet verify-adapter --backend`).
        """
        message = f"{type(self).__name__} has no remove_foreign, and cannot take {service.local_name} out again"
        raise NotImplementedError(message)

    @abstractmethod
    def edit_import(self, service: ImportedService) -> None:
        """Change the entry that the adapter wrote for `service`, as a person would: its mark stays.

        An adapter may be writing meanwhile. Whoever comes last has it: when this returns, it has been changed.
        """

    @abstractmethod
    def entries(self) -> Mapping[str, object]:
        """Everything that stands in the backend, by whatever names it, in a form that shows each rewrite.

        It is the same as long as nobody writes. What the adapter wrote and what others did are never told of under
        one name, even where the backend lets both stand beside each other. A value is never None, which is taken for
        an entry that is not there.

        A rewrite shows in a revision or a time that the backend keeps of each entry. Where it keeps none, pair the
        entry with a count of its writes that you have seen (in the backend's events or its log), which goes when the
        entry goes: else the checks that nothing is written twice (R5, R6) pass without having looked.
        """

    @abstractmethod
    def outage(self) -> AbstractContextManager[None]:
        """Make the backend unreachable for as long as the context lasts; its data survive."""

    def sweep(self) -> None:  # noqa: B027 - one that is new for each test has nothing of earlier ones
        """Take out what these methods have put there, in this run or in an earlier one that was killed.

        `hamlet verify-adapter` calls it before the first check and after the last: `LIVE_NAMES.own` is in the name of
        every service and of every peer then. What the adapter has written is the adapter's to take out.
        """

    def close(self) -> None:  # noqa: B027 - most need none
        """Release everything; nothing is called afterwards."""

    def deny(self) -> AbstractContextManager[None] | None:
        """Take the adapter's rights from it for as long as the context lasts; its data survive.

        It may read nothing of them then, from the moment the context is entered until it is left; whatever else
        acts on the backend still can. It is the caller that is refused, not the backend that is gone: a token
        without rights. None where the backend knows no rights. Nothing but its reach can be taken from an adapter
        there, so the checks take that (`outage`) and ask the same of it: no check is left out. Where the backend
        does know rights, but these hands may not change them (a live one, without an administrator's token), call
        `not_run(needs="an administrator's token")`: the report says so.
        """
        return None

    def silence(self) -> AbstractContextManager[None] | None:
        """Take whatever adapters send and answer nothing for as long as the context lasts (`Relay.silence`).

        The connection stands or is made, and no word comes: only the adapter's own timeout ends it. What was asked
        meanwhile is not done later either. The checks open their adapter within the context, which may give it
        shorter timeouts than it has by default, and wait `RegistryContract.deadline` seconds for it to give up.
        None where no server is asked: the checks take an outage then.
        """
        return None
