"""The exit codes of `hamlet`; scripts rely on them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended; 130, the shell's own code, is for interrupted."""

    OK = 0
    FINDINGS = 1
    """It found errors, or what was asked for was refused."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    UNREACHABLE = 3
    """No agent answers, or no backend."""
    INTERNAL = 4
    """A fault of Hamlet itself, or of a plugin."""


def code_of(error: Exception) -> Exit:
    """The exit code for an error that ended a command."""
    # Imported here: the first error is soon enough, and `hamlet --help` stays fast.
    from hamlet_core.api.errors import (
        ConfigError,
        CoordinatorUnavailable,
        GatewayUnavailable,
        HamletError,
        RegistryUnavailable,
    )

    if isinstance(error, ConfigError):
        return Exit.USAGE
    if isinstance(error, HamletError):
        from hamlet_core.agent.admin import AgentUnreachable

        unreachable = (AgentUnreachable, RegistryUnavailable, GatewayUnavailable, CoordinatorUnavailable)
        return Exit.UNREACHABLE if isinstance(error, unreachable) else Exit.FINDINGS
    return Exit.INTERNAL
