"""What a file in services/ may say. `python -m hamlet_file.schema` prints it as JSON Schema."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from hamlet_core.api import Endpoint, LocalService, Protocol, ServicePort

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def _name(value: str) -> str:
    if len(value) > 253 or not _NAME.fullmatch(value):
        message = f"{value!r} must be lower-case letters, digits and hyphens, in labels joined by dots (RFC 1123)"
        raise ValueError(message)
    return value


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return _name(value.lower())


Name = Annotated[str, AfterValidator(_name)]
Address = Annotated[str, AfterValidator(_address)]
PortNumber = Annotated[int, Field(strict=True, ge=1, le=65535)]
AnyCase = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


class _Strict(BaseModel):
    """Unknown keys are errors: a misspelt one would otherwise be ignored in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PortEntry(_Strict):
    """A port that callers use."""

    name: str = Field(min_length=1, description="Its name; endpoints that serve it carry it among their labels.")
    port: PortNumber
    protocol: Annotated[Protocol, AnyCase] = Protocol.TCP


class EndpointEntry(_Strict):
    """A place where the service runs."""

    address: Address = Field(description="An IP address or a domain name.")
    port: PortNumber
    healthy: bool = Field(default=True, strict=True, description="false: nobody is sent there.")
    labels: tuple[str, ...] = Field(default=(), description="Names of the ports it serves, where there are several.")
    description: str = ""


class ServiceEntry(_Strict):
    """One service: what it is called, the ports its callers use, and where it runs."""

    name: Name = Field(description="Its name in this mesh; unique among all files.")
    port: PortNumber | None = Field(default=None, description="The port of a service that has one.")
    protocol: Annotated[Protocol, AnyCase] | None = Field(default=None, description="Of `port`; TCP by default.")
    ports: tuple[PortEntry, ...] = Field(default=(), description="The ports of a service that has several.")
    endpoints: tuple[EndpointEntry, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    sans: tuple[str, ...] = Field(default=(), description="Identities its workloads present: SPIFFE IDs, DNS names.")
    publish_to: tuple[str, ...] = Field(
        default=(), description="Peers to publish it to, or `*`; counts for rules with `marked: true`."
    )

    @model_validator(mode="after")
    def _ports_are_clear(self) -> ServiceEntry:
        if (self.port is None) == (not self.ports):
            message = "give either `port` (and `protocol`) or `ports`"
            raise ValueError(message)
        if self.ports and self.protocol is not None:
            message = "with `ports`, each of them has its own `protocol`"
            raise ValueError(message)
        names = {port.name for port in self.ports}
        if len(names) < len(self.ports):
            message = "two of its `ports` have the same name"
            raise ValueError(message)
        for endpoint in self.endpoints if len(names) > 1 else ():
            if not names.intersection(endpoint.labels):
                message = f"endpoint {endpoint.address}:{endpoint.port} must name in `labels` the ports it serves"
                raise ValueError(message)
        return self

    def to_local(self) -> LocalService:
        """The service as the core knows it: healthy endpoints only."""
        single = () if self.port is None else (self._single(self.port),)
        return LocalService(
            name=self.name,
            ports=single or tuple(ServicePort(name=p.name, port=p.port, protocol=p.protocol) for p in self.ports),
            endpoints=tuple(
                Endpoint(address=e.address, port=e.port, labels=e.labels, description=e.description)
                for e in self.endpoints
                if e.healthy
            ),
            description=self.description,
            tags=self.tags,
            labels=self.labels,
            sans=self.sans,
            publish_to=self.publish_to,
        )

    def _single(self, port: int) -> ServicePort:
        protocol = self.protocol or Protocol.TCP
        return ServicePort(name=protocol.lower(), port=port, protocol=protocol)


if __name__ == "__main__":
    schema = TypeAdapter(ServiceEntry | list[ServiceEntry]).json_schema()
    sys.stdout.write(json.dumps(schema, indent=2) + "\n")
