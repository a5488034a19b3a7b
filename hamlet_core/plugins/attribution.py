"""Errors of adapters, told apart by what to do about them and prefixed once with whose they are."""

from __future__ import annotations

from hamlet_core.api import (
    AdapterError,
    ConfigError,
    CoordinatorUnavailable,
    GatewayUnavailable,
    HamletError,
    InvalidService,
    RegistryUnavailable,
)
from hamlet_core.plugins import newer

_FAMILIES = (
    RegistryUnavailable,
    GatewayUnavailable,
    CoordinatorUnavailable,
    ConfigError,
    InvalidService,
    AdapterError,
)


FAULT = "a fault of the adapter: report it with the log"
"""What to do about an adapter that breaks its contract."""


def attributed(owner: str, error: BaseException) -> HamletError:
    """Return `error` as one of our families, its message prefixed with `owner`; raise it `from` the original.

    An adapter's own subclass becomes the family it belongs to. What is no error of Hamlet's at all is a
    fault of the adapter, unless it is for want of something that a newer hamlet-core may have.
    """
    for family in _FAMILIES:
        if isinstance(error, family):
            return family(f"{owner}: {error}", mend=error.mend)
    if isinstance(error, HamletError):
        return AdapterError(f"{owner}: {error}", mend=error.mend)
    if newer.lacks(error):
        return AdapterError(f"{owner}: {described(error)}{newer.PERHAPS}", mend=newer.mend())
    return AdapterError(f"{owner}: {described(error)}", mend=FAULT)


def described(error: BaseException) -> str:
    """The message of an error, after the name of its type where it is none of Hamlet's."""
    if isinstance(error, HamletError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
