"""The options by which a cluster is reached and written to, of the registry and of the gateway. It opens nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from hamlet_core.api import AdapterOptions, Duration

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        message = f"{value!r} is no name of a namespace (RFC 1123 label)"
        raise ValueError(message)
    return value


def _proxy(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or url.username is not None:
        shown = value.rpartition("@")[2]  # what stands before it is a secret
        message = f"{shown!r} must be a URL http(s)://host:port; a user and password go into `proxy_credentials`"
        raise ValueError(message)
    return value


Period = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(hours=1))]
Namespace = Annotated[str, AfterValidator(_label)]
Proxy = Annotated[str, AfterValidator(_proxy)]


class ClusterOptions(AdapterOptions):
    """Which API server, as whom, and with how much patience."""

    kubeconfig: Path | None = Field(
        default=None, description="kubeconfig file; default $KUBECONFIG or ~/.kube/config, unless in a cluster."
    )
    context: str | None = Field(default=None, description="Context of the kubeconfig; default its current one.")
    in_cluster: bool | None = Field(
        default=None,
        description="Use the pod's service account; default: when nothing else is given and we are in a pod.",
    )
    server: str | None = Field(
        default=None, description="Instead of a kubeconfig: URL of the API server, with `token` or `token_file`."
    )
    token: SecretStr | None = Field(default=None, description="Bearer token for `server`.")
    token_file: Path | None = Field(
        default=None,
        description="File with the bearer token for `server` (or, `in_cluster`, instead of the pod's);"
        " read anew when it changes.",
    )
    ca: Path | None = Field(
        default=None,
        description="PEM file: the authorities of `server` (default the machine's), or, `in_cluster`, instead of the"
        " pod's.",
    )
    proxy: Proxy | None = Field(
        default=None, description="HTTP(S) proxy on the way to the API server; default $HTTPS_PROXY and $NO_PROXY."
    )
    proxy_credentials: SecretStr | None = Field(default=None, description="user:password for `proxy`.")
    field_manager: str = Field(
        default="hamlet", min_length=1, max_length=128, description="Field manager of our server-side apply."
    )
    force_conflicts: bool = Field(
        default=False,
        description="Take back fields of our objects that another manager changed; default: report the conflict.",
    )
    concurrency: int = Field(default=8, ge=1, le=64, description="Objects written at the same time.")
    connect_timeout: Period = Field(default=timedelta(seconds=3), description="Longest time to connect.")
    timeout: Period = Field(default=timedelta(seconds=15), description="Longest time for an answer.")
    retry: Period = Field(default=timedelta(seconds=20), description="How long a write is repeated on 429 and 5xx.")
    watch: Period = Field(
        default=timedelta(seconds=60),
        ge=timedelta(seconds=1),
        description="How long a watch stands; a silent server is noticed after it and a sixth of it.",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> ClusterOptions:
        if self.server is None and (self.token or ((self.token_file or self.ca) and not self.in_cluster)):
            message = "`token`, `token_file` and `ca` belong to `server`; the latter two also to `in_cluster: true`"
            raise ValueError(message)
        if self.proxy_credentials and not self.proxy:
            message = "`proxy_credentials` belongs to `proxy`"
            raise ValueError(message)
        if self.server is not None:
            if self.kubeconfig or self.context or self.in_cluster:
                message = "either `server`, or `kubeconfig` and `context`, or `in_cluster`"
                raise ValueError(message)
            if (self.token is None) == (self.token_file is None):
                message = "`server` needs `token` or `token_file`"
                raise ValueError(message)
            url = urlsplit(self.server)
            loopback = url.hostname in {"localhost", "127.0.0.1", "::1"}
            if not url.hostname or url.scheme not in {"http", "https"} or (url.scheme == "http" and not loopback):
                message = f"server {self.server!r} must be a URL https://host:port (http only on this machine)"
                raise ValueError(message)
        elif self.in_cluster and (self.kubeconfig or self.context):
            message = "either `in_cluster`, or `kubeconfig` and `context`"
            raise ValueError(message)
        return self
