"""How a service, an import and a lost peer look in the registry. Pure: texts in, texts out."""

from __future__ import annotations

from hamlet_core.api import FederatedService, ImportedService, LocalService, Mark, Route
from pydantic import BaseModel, ConfigDict, ValidationError


class Local(BaseModel):
    """A service of this mesh."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: LocalService


class Import(BaseModel):
    """A service of another mesh, with the mark by which it is known again as written by Hamlet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    local_name: str
    service: FederatedService
    route: Route | None
    mark: Mark

    @classmethod
    def of(cls, imported: ImportedService, mark: Mark) -> Import:
        """The entry of an import."""
        return cls(local_name=imported.local_name, service=imported.service, route=imported.route, mark=mark)

    @property
    def imported(self) -> ImportedService:
        """The import, as its entry says now."""
        return ImportedService(
            peer=self.mark.peer, local_name=self.local_name, service=self.service, route=self.route
        )

    @property
    def digest(self) -> str:
        """The mark's digest, or an empty string where someone has changed the entry since."""
        return self.mark.digest if self.imported.digest == self.mark.digest else ""


def read(text: str) -> Local | Import | None:
    """What a value says; None where it is neither of ours nor a service."""
    for form in (Local, Import):
        try:
            return form.model_validate_json(text)
        except ValidationError:
            continue
    return None


def write(entry: Local | Import) -> str:
    """The value of an entry; the same one for the same content."""
    return entry.model_dump_json()


class Keys:
    """Where things stand below the prefix."""

    def __init__(self, prefix: str) -> None:
        self.services = f"{prefix}services/"
        self._peers = f"{prefix}peers/"

    def service(self, name: str) -> str:
        """The key of the service or import of that name."""
        return f"{self.services}{name}"

    def peers(self, trust_domain: str, registry: str) -> str:
        """What the keys of an agent's lost peers begin with."""
        return f"{self._peers}{trust_domain}/{registry}/"
