"""Why a call had no answer, in sentences: what HTTP libraries say of it is made for programmers."""

from __future__ import annotations

import re
import ssl
from http.client import BadStatusLine, RemoteDisconnected
from socket import gaierror

from urllib3.exceptions import (
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as CallTimeout,
)

from hamlet_core.api import RegistryUnavailable


def is_tls(error: Exception) -> bool:
    """Whether it is TLS that failed."""
    return isinstance(_reason(error), (ssl.SSLError, SSLError))


def silence(address: str, path: str, error: Exception) -> RegistryUnavailable:
    """What to raise for a call of `path` at the agent `address` that ended with `error`."""
    reason = _reason(error)
    if isinstance(reason, NameResolutionError):
        said = _system(reason.__cause__)
        message = f"Consul at {address} cannot be connected to: the name has no address ({said})"
        return RegistryUnavailable(message, mend="look at `address`, and at what resolves names on this machine")
    if isinstance(reason, NewConnectionError):
        if isinstance(reason.__cause__, ConnectionRefusedError):
            message = f"Consul at {address} refuses connections"
            return RegistryUnavailable(message, mend="is its agent running, and is `address` right?")
        message = f"Consul at {address} cannot be connected to: {_system(reason.__cause__)}"
        return RegistryUnavailable(message, mend="is its agent running, and is `address` right?")
    if isinstance(reason, (CallTimeout, TimeoutError)):
        message = f"Consul at {address} did not answer {path} in time"
        return RegistryUnavailable(message, mend="does its agent hang, or is a firewall in between?")
    if is_tls(reason):
        message = f"Consul at {address} and we do not agree on TLS: {_tls(str(reason))}"
        return RegistryUnavailable(message, mend="look at `address`, `ca`, `certificate` and `tls_server_name`")
    if isinstance(reason, BadStatusLine) and not isinstance(reason, RemoteDisconnected):
        message = f"what answered at {address} does not speak HTTP"
        return RegistryUnavailable(message, mend="look at `address`: is it https, or the port of something else?")
    message = f"Consul at {address} did not answer {path}: the connection broke ({_system(reason)})"
    return RegistryUnavailable(message, mend="is its agent running, and is `address` right?")


def _reason(error: Exception) -> Exception:
    """What is behind an error that only says that there was one."""
    if isinstance(error, MaxRetryError) and error.reason is not None:
        return _reason(error.reason)
    if isinstance(error, ProtocolError) and isinstance(error.args[-1], Exception):
        return error.args[-1]
    return error


def _system(error: BaseException | None) -> str:
    """The system's own words, without their number."""
    said = error.strerror if isinstance(error, (OSError, gaierror)) else None
    return said or (str(error) if isinstance(error, (OSError, HTTPError)) else type(error).__name__)


def _tls(said: str) -> str:
    return re.sub(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$", "", said)
