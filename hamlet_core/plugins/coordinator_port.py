"""The coordinator as the event loop sees it: every call of its adapter goes through its port. It decides nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType

from hamlet_core.api import AdapterError, AdapterType, CoordinatorSpec, CoordinatorUnavailable, Finding
from hamlet_core.plugins.calls import Calls, hook_relay

_REQUIRED = ("coordinator_lead", "coordinator_check")
_NOT_WRAPPED = ("coordinator_close",)


class CoordinatorPort:
    """The configured coordinator: its adapter, the wrappers around it, the threads they run on.

    `call_timeout` and `stop_timeout` as for a registry's port.
    """

    def __init__(
        self,
        adapter_type: AdapterType,
        adapter: object,
        wrappers: Mapping[str, object] = MappingProxyType({}),
        *,
        call_timeout: float = 60.0,
        stop_timeout: float = 5.0,
    ) -> None:
        self.kind = adapter_type.kind
        self.title = f"coordinator ({adapter_type.kind})"
        self._hooks = hook_relay(self.title, CoordinatorSpec, _REQUIRED, _NOT_WRAPPED, adapter, wrappers)
        self._calls = Calls(
            "coordinator", self.title, CoordinatorUnavailable, call_timeout=call_timeout, stop_timeout=stop_timeout
        )

    async def lead(self) -> AsyncGenerator[bool, None]:
        """Yield whether this agent leads, now and whenever it changes; leaving gives the lead up. Use `aclosing`.

        Raises `CoordinatorUnavailable` while that cannot be known, and `AdapterError` for an adapter that breaks
        the contract: this agent does not lead then.
        """
        async with aclosing(
            self._calls.watch("coordinator_lead", lambda stop: self._hooks.coordinator_lead(stop=stop))
        ) as words:
            async for leads in words:
                if not isinstance(leads, bool):
                    message = f"{self.title}: coordinator_lead yielded {leads!r:.200}; True or False is due"
                    raise AdapterError(message)
                yield leads

    async def check(self) -> list[Finding]:
        """Ask the coordinator how it is; a check that fails or hangs is a finding too."""
        return await self._calls.check("coordinator_check", self._hooks.coordinator_check)

    async def close(self) -> None:
        """Give the lead up, release the adapter; see `Calls.close`."""
        await self._calls.close("coordinator_close", self._hooks.coordinator_close)
