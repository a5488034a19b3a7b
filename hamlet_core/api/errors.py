"""The errors of Hamlet, divided by what the one who catches them should do.

A message names the thing, the value and the mend; the library's own exception is its cause.
"""

from __future__ import annotations


class HamletError(Exception):
    """Anything that Hamlet reports on purpose. `mend`, when given, says what to do about it."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend


class ConfigError(HamletError):
    """A setting is wrong: a person must change it. `where` is `file:line` when the place is known."""

    def __init__(self, message: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, mend=mend)
        self.where = where


class AdapterError(HamletError):
    """An adapter failed in a way that trying again will not cure (its version, its rights, its bug)."""


class RegistryUnavailable(HamletError):
    """The backend cannot be reached or cannot answer now: keep what is known and try again later."""


class GatewayUnavailable(HamletError):
    """The gateway cannot be reached or took nothing of what it was given: what it does now stays; try again later."""


class CoordinatorUnavailable(HamletError):
    """Who leads cannot be known now: this agent does not lead; try again later."""


class InvalidService(HamletError):
    """A service breaks a rule of the protocol or of a registry and can never be taken as it is."""
