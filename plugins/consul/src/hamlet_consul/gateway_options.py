"""The options of a gateway of kind `consul`: every key beside those that reach Consul. It opens nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from hamlet_consul.options import Connection


class ConsulGatewayOptions(Connection):
    """The keys of a gateway of kind `consul`: a terminating gateway that leads calls out."""

    gateway: str = Field(
        default="terminating-gateway",
        min_length=1,
        description="Name of the terminating gateway, which is its service's and its config entry's.",
    )
    directory: Path = Field(
        default=Path("consul-egress"),
        description="Folder that the agent writes our certificate, its key and the peers' authorities into.",
    )
    files: str = Field(
        default="",
        description="The same folder as the gateway's proxy sees it, absolute; empty: by the same path.",
    )
    protocols: bool = Field(
        default=True,
        description="Write `service-defaults` with the protocol of imports that speak HTTP, HTTP/2 or gRPC.",
    )

    names: Literal["by-version", "checked"] = Field(
        default="by-version",
        description="Whether Consul has its proxies check owners' names; `checked`: an older one than 1.13 does too.",
    )

    @field_validator("files")
    @classmethod
    def _files(cls, value: str) -> str:
        if value and not value.startswith("/"):
            message = f"{value!r} must be an absolute path: the proxy has a working folder of its own"
            raise ValueError(message)
        return value.rstrip("/") or value
