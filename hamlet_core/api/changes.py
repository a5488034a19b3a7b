"""The changes that travel between a registry and the core, and what became of them. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from hamlet_core.api.model import ImportedService, ImportKey, LocalService


@dataclass(frozen=True, slots=True)
class Upsert:
    """A local service appeared or changed; `service` is the whole of it."""

    service: LocalService


@dataclass(frozen=True, slots=True)
class Remove:
    """The local service `name` is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every local service there is: what is not in it is gone. Never the sign of an outage."""

    services: tuple[LocalService, ...]


Batch: TypeAlias = Snapshot | tuple[Upsert | Remove, ...]
"""What `registry_watch` yields: everything anew, or changes in the order in which they happened."""


@dataclass(frozen=True, slots=True)
class WriteImport:
    """Make the registry hold this imported service, whether or not it holds an earlier form of it."""

    service: ImportedService

    @property
    def key(self) -> ImportKey:
        """Which import it is about."""
        return self.service.key


@dataclass(frozen=True, slots=True)
class RemoveImport:
    """Take the import `key`, which stands under `local_name`, out; gone already is success."""

    key: ImportKey
    local_name: str


ImportChange: TypeAlias = WriteImport | RemoveImport
"""What `registry_apply` is asked to do about one import."""


class Status(StrEnum):
    """What became of one change."""

    APPLIED = "applied"
    REJECTED = "rejected"
    """It can never be applied as it is (a name the backend cannot hold, an entry of someone else's)."""
    RETRY = "retry"
    """It may succeed later (the backend is busy, a concurrent edit came between)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the change about `key`; `reason` says why when it was not applied."""

    key: ImportKey
    status: Status
    reason: str = ""
