"""What an operator says about a registry of kind `etcd` in hamlet.yaml."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from hamlet_core.api import AdapterOptions, Duration
from pydantic import Field, SecretStr


class EtcdOptions(AdapterOptions):
    """The keys beside `kind`; unknown ones are errors. The README has a table of them."""

    address: str = Field(
        default="http://127.0.0.1:2379",
        pattern=r"^https?://[^/]+$",
        description="URL of an etcd server, or of what balances several.",
    )
    prefix: str = Field(
        default="mesh/", min_length=1, description="What the keys of all services and imports begin with."
    )
    user: str | None = Field(default=None, description="User, where etcd asks who we are.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    ca: Path | None = Field(default=None, description="PEM file: the authorities of etcd; default the machine's.")
    certificate: Path | None = Field(default=None, description="PEM file: our client certificate, where etcd asks.")
    key: Path | None = Field(default=None, description="PEM file: its private key.")
    server_name: str | None = Field(default=None, description="Name in etcd's certificate; default the address's.")
    timeout: Annotated[Duration, Field(gt=timedelta(0))] = Field(
        default=timedelta(seconds=5), description="Longest time for an answer; a watch is renewed as often."
    )
