"""The ways into Consul of what `hamlet verify-adapter` opens: one for an adapter that can be cut, one for the others.

No agent imports this module; it needs pytest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from consul import base

from hamlet_consul.address import parse_address
from hamlet_consul.client import Client, Operation
from hamlet_consul.options import Connection
from hamlet_consul.transport import Transport
from hamlet_core.api import AdapterContext, AdapterError
from hamlet_core.api.testing import Names, Relay, not_run

Options = TypeVar("Options", bound=Connection)


class Cable:
    """A way to the agent of Consul that can be cut. There is none to a Unix socket, which is reached as it is."""

    def __init__(self, options: Connection) -> None:
        self._address = options.address
        self._scheme, host, port, path = parse_address(options.address)
        self._host = host.strip("[]")
        self._relay = None if path else Relay(self._host, port)

    def through(self, options: Options) -> Options:
        """The same options, by this way; the certificate must be that of the address that they had."""
        if self._relay is None:
            return options
        changed = {"address": f"{self._scheme}://{self._relay.address}"}
        if self._scheme == "https":
            changed["tls_server_name"] = options.tls_server_name or self._host
        return options.model_copy(update=changed)

    def cut(self) -> AbstractContextManager[None]:
        """Have connections refused meanwhile, as those of a server that is gone."""
        return self._required().cut()

    def silence(self) -> AbstractContextManager[None]:
        """Have nothing pass meanwhile, and nobody told."""
        return self._required().silence()

    def close(self) -> None:
        """Be no more."""
        if self._relay is not None:
            self._relay.close()

    def _required(self) -> Relay:
        """The relay; the check is left out where there can be none."""
        if self._relay is None:
            not_run(needs=f"an address of http or https: nothing can be put before {self._address}")
        return self._relay


class Hand:
    """The other hand on Consul: what it is told to do succeeds, or raises."""

    def __init__(self, options: Connection, names: Names) -> None:
        context = AdapterContext(
            name=names.registry,
            mesh=names.mesh,
            domain=names.domain,
            trust_domain=names.trust_domain,
            directory=Path(),
        )
        self.client = Client(Transport(options.settings(context, consistency="consistent")))

    def get(self, path: str, **params: object) -> Any:
        """What is there; None for nothing."""
        return self.client.http.get(_found, path=path, params=list(params.items()))

    def put(self, path: str, body: object = "") -> Any:
        """Write."""
        data = body if isinstance(body, str) else json.dumps(body)
        return self.client.http.put(base.CB.json(), path=path, data=data)

    def transact(self, operation: Operation) -> None:
        """Make one operation of a transaction."""
        result = self.client.transact([operation])
        if result.errors:
            message = f"Consul does not do {json.dumps(operation)}: {result.errors[0][1]}"
            raise AdapterError(message, mend="give the token the rights of the README, under `Verifying`")

    def register(self, node: str, service: Mapping[str, object], *checks: Mapping[str, object]) -> None:
        """Register an instance on a node, with its checks, in one step."""
        whole = {"Node": node, "Address": "192.0.2.1", "Service": service, "Checks": checks}
        self.put("/v1/catalog/register", whole)

    def deregister(self, node: str, service_id: str) -> None:
        """Take an instance out, and its node when it was the last on it."""
        self.put("/v1/catalog/deregister", {"Node": node, "ServiceID": service_id})
        self.drop_empty(node)

    def drop_empty(self, node: str) -> None:
        """Take a node out on which nothing is."""
        found = self.client.node_services(node).data
        if found and found["Node"] and not found["Services"]:
            self.drop(node)

    def drop(self, node: str) -> None:
        """Take a node out, whatever is on it."""
        self.put("/v1/catalog/deregister", {"Node": node})

    def nodes(self) -> dict[str, Mapping[str, str]]:
        """The meta of every node that is seen."""
        return {node["Node"]: node["Meta"] or {} for node in self.client.nodes().data or ()}


def _found(response: Any) -> Any:
    return json.loads(response.body) if response.code == 200 else None
