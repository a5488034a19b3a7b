"""Services to test with: plain ones, each told apart by its name."""

from __future__ import annotations

from hamlet_core.api import (
    Endpoint,
    FederatedService,
    ImportedService,
    Instance,
    LocalService,
    Protocol,
    ServicePort,
)


def local_service(name: str, address: str = "10.0.0.5") -> LocalService:
    """A service with one HTTP port and one healthy endpoint."""
    return LocalService(
        name=name,
        ports=(ServicePort(name="http", port=8080, protocol=Protocol.HTTP),),
        endpoints=(Endpoint(address=address, port=8080),),
        description=f"The {name} of this mesh",
        tags=("v1",),
        labels={"team": "shop"},
    )


def imported_service(
    name: str,
    peer: str = "east",
    *,
    address: str = "203.0.113.7",
    local_name: str = "",
    description: str = "",
    tags: tuple[str, ...] = ("v1",),
    labels: dict[str, str] | None = None,
) -> ImportedService:
    """The service `<name>.<peer>.example` of `peer`, reached through one endpoint with SNI."""
    fqdn = f"{name}.{peer}.example"
    service = FederatedService(
        name=fqdn,
        fqdn=fqdn,
        endpoints=(Endpoint(address=address, port=8443, labels=("http",)),),
        instances=(
            Instance(id="http", protocol="HTTP", metadata={"SNI": fqdn, "PORT": "8080"}, endpoint_selector=("http",)),
        ),
        description=description,
        tags=tags,
        labels=labels or {"team": "shop"},
        sans=(f"spiffe://{peer}.example/ingress",),
    )
    return ImportedService(peer=peer, local_name=local_name or fqdn, service=service)
