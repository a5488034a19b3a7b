"""The options of a registry of kind `consul`, and those that reach Consul at all. It opens nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from hamlet_consul.address import parse_address
from hamlet_consul.transport import Settings
from hamlet_core.api import AdapterContext, AdapterOptions, ConfigError, Duration

Period = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(hours=24))]


class Outside(BaseModel):
    """Which services of Consul are the way in for other meshes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mesh-gateway", "ingress-gateway", "terminating-gateway", "api-gateway"] | None = Field(
        default=None, description="Every passing gateway of this kind."
    )
    service: str | None = Field(default=None, description="Every passing instance of the service of this name.")

    @model_validator(mode="after")
    def _one(self) -> Outside:
        if (self.kind is None) == (self.service is None):
            message = "name the gateway either by `kind` or by `service`"
            raise ValueError(message)
        return self


class Connection(AdapterOptions):
    """The keys by which an agent of Consul is reached. The environment (CONSUL_HTTP_*) has no say in any of them."""

    address: str = Field(
        default="http://127.0.0.1:8500",
        description="The agent: `http://host:port`, `https://host:port` or `unix:///path`.",
    )
    token: SecretStr = Field(default=SecretStr(""), description="ACL token; empty: the anonymous one.")
    ca: Path | None = Field(
        default=None, description="PEM file: the authorities of the agent's certificate; default the machine's."
    )
    certificate: Path | None = Field(
        default=None, description="PEM file: our client certificate, where the agent asks for one."
    )
    key: Path | None = Field(default=None, description="PEM file: its private key.")
    tls_server_name: str = Field(
        default="", description="The name that the agent's certificate must have; empty: that of the address."
    )
    datacenter: str = Field(default="", description="The datacenter; empty: the agent's own.")
    namespace: str = Field(default="", description="The namespace (Consul Enterprise).")
    partition: str = Field(default="", description="The admin partition (Consul Enterprise).")
    connect_timeout: Period = Field(default=timedelta(seconds=3), description="Longest time to connect to the agent.")
    timeout: Period = Field(default=timedelta(seconds=10), description="Longest time for an answer to begin.")

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parse_address(value)
        except ConfigError as error:
            message = f"{error}: {error.mend}"
            raise ValueError(message) from error
        return value

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            message = "`certificate` and `key` go together"
            raise ValueError(message)
        if (self.ca or self.certificate or self.tls_server_name) and not self.address.startswith("https:"):
            message = f"`ca`, `certificate` and `tls_server_name` need an https address, not {self.address!r}"
            raise ValueError(message)
        return self

    def settings(self, context: AdapterContext, *, consistency: str) -> Settings:
        """What the transport needs; paths are taken relative to the configuration file."""

        def path(value: Path | None) -> Path | None:
            return context.directory / value if value else None

        return Settings(
            address=self.address,
            token=self.token.get_secret_value(),
            ca=path(self.ca),
            certificate=path(self.certificate),
            key=path(self.key),
            server_name=self.tls_server_name,
            datacenter=self.datacenter,
            namespace=self.namespace,
            partition=self.partition,
            consistency=consistency,
            connect_timeout=self.connect_timeout.total_seconds(),
            timeout=self.timeout.total_seconds(),
        )


class ConsulOptions(Connection):
    """The keys of a registry of kind `consul`."""

    consistency: Literal["default", "stale", "consistent"] = Field(
        default="default",
        description="Of the queries that wait for changes; reads of what changed are never stale.",
    )
    wait: Period = Field(
        default=timedelta(seconds=60),
        le=timedelta(minutes=10),
        description="How long a query waits for a change; a hanging agent is noticed after it and `timeout`.",
    )
    sweep: Period = Field(
        default=timedelta(minutes=5),
        description="How often all nodes are read anew, when the catalog has changed since.",
    )
    settle: Period = Field(
        default=timedelta(minutes=2),
        description="After Consul lost its data: how long what is missing is not taken for withdrawn.",
    )
    health: Literal["passing", "any"] = Field(
        default="passing", description="Which instances are endpoints: only passing ones, or all."
    )
    publish_key: str = Field(
        default="hamlet-publish",
        min_length=1,
        description="Tag (`key=east,north`) or service meta by which a service asks to be published.",
    )
    protocol_key: str = Field(
        default="protocol",
        min_length=1,
        description="Service meta or tag (`key=http`) that tells the protocol; it beats `service-defaults`.",
    )
    outside: Outside | None = Field(
        default=None,
        description="Gateway whose WAN addresses, followed as they change, are the endpoints of every service.",
    )
