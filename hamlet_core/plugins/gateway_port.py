"""The gateway as the event loop sees it: every call of its adapter goes through its port, which decides nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

from hamlet_core.api import (
    AdapterError,
    AdapterType,
    Finding,
    GatewaySpec,
    GatewayUnavailable,
    ImportAnswer,
    ImportKey,
    ImportRoute,
    Ingress,
    PublishRefusals,
    PublishRoute,
    Refused,
    Route,
    Trust,
)
from hamlet_core.plugins.calls import Calls, hook_relay

_REQUIRED = ("gateway_ingress", "gateway_trust", "gateway_publish", "gateway_import", "gateway_check")
_NOT_WRAPPED = ("gateway_close",)


class GatewayPort:
    """A configured gateway (`gateway` or `egress`): its adapter, the wrappers around it, the threads they run on.

    `call_timeout` and `stop_timeout` as for a registry's port. All methods raise `GatewayUnavailable`, also
    when there is no answer in time, and `AdapterError` for answers that break the contract.
    """

    def __init__(
        self,
        name: str,
        adapter_type: AdapterType,
        adapter: object,
        wrappers: Mapping[str, object] = MappingProxyType({}),
        *,
        call_timeout: float = 60.0,
        stop_timeout: float = 5.0,
    ) -> None:
        self.kind = adapter_type.kind
        self.title = f"{name} ({adapter_type.kind})"
        self._hooks = hook_relay(self.title, GatewaySpec, _REQUIRED, _NOT_WRAPPED, adapter, wrappers)
        self._calls = Calls(
            name, self.title, GatewayUnavailable, call_timeout=call_timeout, stop_timeout=stop_timeout
        )

    async def ingress(self) -> AsyncGenerator[Ingress | None, None]:
        """Yield how other meshes reach this one, now and whenever it changes; None: not at all. Use `aclosing`."""
        async with aclosing(
            self._calls.watch("gateway_ingress", lambda stop: self._hooks.gateway_ingress(stop=stop))
        ) as found:
            async for ingress in found:
                if ingress is not None and not (isinstance(ingress, Ingress) and ingress.endpoints and ingress.sans):
                    message = (
                        f"{self.title}: gateway_ingress yielded {ingress!r:.200}; an Ingress is due, with at least"
                        " one endpoint and one SAN"
                    )
                    raise AdapterError(message)
                yield ingress

    async def trust(self, trust: Trust) -> None:
        """Hand over our certificate and whom to believe."""
        await self._calls.answer("gateway_trust", lambda: self._hooks.gateway_trust(trust=trust))

    async def publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """Make `routes` all that the ingress leads anywhere; returns those it will not take, by SNI."""
        refusals = await self._calls.answer(
            "gateway_publish", lambda: self._hooks.gateway_publish(routes=tuple(routes))
        )
        known = {route.sni for route in routes}
        if not isinstance(refusals, Mapping) or any(
            sni not in known or not isinstance(each, Refused) for sni, each in refusals.items()
        ):
            message = f"{self.title}: gateway_publish returned {refusals!r:.200}; refusals by SNI are due"
            raise AdapterError(message)
        return refusals

    async def routes(
        self, routes: Sequence[ImportRoute], keep: frozenset[ImportKey] | None
    ) -> Mapping[ImportKey, ImportAnswer]:
        """Make `routes`, and what is there for `keep`, all that leads out of this mesh; an answer for each route.

        `keep` None takes nothing away.
        """
        answers = await self._calls.answer(
            "gateway_import", lambda: self._hooks.gateway_import(routes=tuple(routes), keep=keep)
        )
        if (
            not isinstance(answers, Mapping)
            or answers.keys() != {route.key for route in routes}
            or not all(isinstance(each, Route | Refused) for each in answers.values())
        ):
            message = f"{self.title}: gateway_import returned {answers!r:.200}; one answer for each route is due"
            raise AdapterError(message)
        return answers

    async def check(self) -> list[Finding]:
        """Ask the gateway how it is; a check that fails or hangs is a finding too."""
        return await self._calls.check("gateway_check", self._hooks.gateway_check)

    async def close(self) -> None:
        """End the watch, wait for the call that is under way, release the adapter; see `Calls.close`."""
        await self._calls.close("gateway_close", self._hooks.gateway_close)
