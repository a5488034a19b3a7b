"""python-consul2's API classes over our transport, with the defects of its own seam kept out. Typed at this edge.

Its constructor is not used: it lets CONSUL_HTTP_* beat what it was given, and warns of deprecations. Answers
are `(index, data)`, the index as a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import orjson
from consul import base
from pydantic import Field, TypeAdapter

from hamlet_consul.errors import ConsulDenied
from hamlet_consul.transport import Pending, Transport, wait_text
from hamlet_core.api import RegistryUnavailable

TXN_OPERATIONS = 64
"""Most operations of one transaction (Consul, "Transaction HTTP API")."""

Operation = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a read returned: Consul's index of it (for the next blocking query) and the decoded data."""

    index: int
    data: Any


@dataclass(frozen=True, slots=True)
class WrittenService:
    """What Consul says of a service that a transaction wrote, as far as it is news: its new index."""

    index: Annotated[int, Field(alias="ModifyIndex")]


@dataclass(frozen=True, slots=True)
class WrittenNode:
    """What Consul says of a node that a transaction wrote."""

    index: Annotated[int, Field(alias="ModifyIndex")]
    meta: Annotated[dict[str, str] | None, Field(alias="Meta")] = None


@dataclass(frozen=True, slots=True)
class Written:
    """One result of a transaction. Deletions have none; of a check or a key nothing is read."""

    service: Annotated[WrittenService | None, Field(alias="Service")] = None
    node: Annotated[WrittenNode | None, Field(alias="Node")] = None


@dataclass(frozen=True, slots=True)
class _Applied:
    results: Annotated[list[Written] | None, Field(alias="Results")]


_APPLIED = TypeAdapter(_Applied)
"""Makes objects only of what is read: in bulk, those of whole answers keep the garbage collector busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TxnResult:
    """What became of a transaction: what it wrote, in order, or the errors by the number of their operation.

    A transaction with errors changed nothing.
    """

    written: tuple[Written, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()


class PendingTxn:
    """A transaction that was sent, and whose answer was not read yet."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def result(self) -> TxnResult:
        """Wait for the answer; as `Client.transact`."""
        return self._pending.result(_txn)  # type: ignore[no-any-return]

    def abandon(self) -> None:
        """Never read the answer; the transaction may be made all the same."""
        self._pending.abandon()


class PendingNames:
    """The question which services there are, sent and not waited for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pending = client.http.begin_get("/v1/catalog/services")

    @property
    def answered(self) -> bool:
        """Whether there is no need to wait."""
        return self._pending.answered

    def result(self) -> frozenset[str]:
        """Wait for the names. A question that failed is put once more, as reads are."""
        try:
            return self._pending.result(_names)  # type: ignore[no-any-return]
        except ConsulDenied:
            raise
        except RegistryUnavailable:
            return frozenset(self._client.services().data or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How to wait for news: since which index, and for how long at most."""

    index: int
    wait: timedelta

    @property
    def arguments(self) -> dict[str, Any]:
        """As python-consul2's methods take them; index 0 asks for an answer at once."""
        return {"index": self.index, "wait": wait_text(self.wait)} if self.index > 0 else {}


class _Config(base.Consul.Config):  # type: ignore[misc]  # python-consul2 is not typed
    def put(self, data: Any, *, cas: int | None = None) -> Any:
        """As its own, but `cas=0` means what Consul says it means: only if there is none yet."""
        params = [("cas", cas)] if cas is not None else []
        return self.agent.http.put(base.CB.json(), path="/v1/config", params=params, data=json.dumps(data))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """As its own, but an entry that is not there is None, not a tuple."""
        return self.agent.http.get(_found, path=f"/v1/config/{kind}/{name}")  # type: ignore[no-any-return]


class Client:
    """The calls of the adapter. `catalog`, `health`, `config` and `kv` are python-consul2's own classes."""

    def __init__(self, transport: Transport) -> None:
        self.http = transport
        # What python-consul2's API classes read from the client that holds them; the transport adds the rest.
        self.token = self.dc = None
        self.consistency = "default"
        self.scheme = transport.scheme
        self.catalog = base.Consul.Catalog(self)
        self.health = base.Consul.Health(self)
        self.config = _Config(self)
        self.kv = base.Consul.KV(self)
        self.session = base.Consul.Session(self)
        self.status = base.Consul.Status(self)
        self.tokens = base.Consul.ACL.Tokens(self)

    def close(self) -> None:
        """End all calls, from any thread."""
        self.http.close()

    def services(self, block: Block | None = None) -> Answer:
        """The tags of every service, by its name."""
        return _answer(self.catalog.services(**_arguments(block)))

    def begin_names(self) -> PendingNames:
        """Ask for the names of all services, and do not wait for the answer."""
        return PendingNames(self)

    def checks(self, block: Block | None = None) -> Answer:
        """Every check of every node and service."""
        return _answer(self.health.state("any", **_arguments(block)))

    def service(self, name: str) -> Answer:
        """Every instance of a service, with its node and checks."""
        return _answer(self.health.service(name))

    def nodes(self, meta: Mapping[str, str] | None = None) -> Answer:
        """Every node, or those that carry this meta."""
        return _answer(self.catalog.nodes(node_meta=dict(meta or {})))

    def node_services(self, node: str) -> Answer:
        """A node and its services: `{"Node": ..., "Services": [...]}`, both None where there is none."""
        return self._get(f"/v1/catalog/node-services/{node}")

    def service_defaults(self, block: Block | None = None) -> Answer:
        """Every `service-defaults` config entry."""
        return self._get("/v1/config/service-defaults", block)

    def builds(self) -> dict[str, str]:
        """The version of each agent of the datacenter by its name, as `1.8.7:0ca15b7a`."""
        left = 3  # Serf's number for a member that has left
        members = self.http.get(base.CB.json(), path="/v1/agent/members") or ()
        return {one["Name"]: one["Tags"].get("build", "") for one in members if one["Status"] != left}

    def ca_trust_domain(self) -> str:
        """The trust domain of the Connect authority, or an empty string where Connect is off."""
        try:
            return str(self._get("/v1/connect/ca/roots").data.get("TrustDomain", ""))
        except RegistryUnavailable as error:
            if "Connect must be enabled" in str(error):
                return ""
            raise

    def transact(self, operations: Sequence[Operation]) -> TxnResult:
        """Apply up to 64 operations together or none; a conflict is a result, not an error."""
        return self.transact_texts([orjson.dumps(operation) for operation in operations])

    def transact_texts(self, operations: Sequence[bytes]) -> TxnResult:
        """As `transact`, of operations that are JSON already."""
        return self.http.put(_txn, path="/v1/txn", data=_list(operations))  # type: ignore[no-any-return]

    def begin_transaction(self, operations: Sequence[bytes]) -> PendingTxn:
        """Send up to 64 operations that are JSON already, and do not wait for the answer."""
        return PendingTxn(self.http.begin_put("/v1/txn", _list(operations)))

    def denied(self, wanted: Sequence[tuple[str, str, str]]) -> tuple[tuple[str, str, str], ...] | None:
        """Which of these (resource, segment, access) the token lacks; None where ACL are off.

        Raises `ConsulDenied` when the token is unknown to Consul.
        """
        body = [{"Resource": kind, "Segment": segment, "Access": access} for kind, segment, access in wanted]
        allowed = self.http.post(_allowed, path="/v1/internal/acl/authorize", data=json.dumps(body))
        if allowed is None:
            return None
        return tuple(right for right, held in zip(wanted, allowed, strict=True) if not held)

    def _get(self, path: str, block: Block | None = None) -> Answer:
        params = list(_arguments(block).items())
        return _answer(self.http.get(base.CB.json(index=True), path=path, params=params))


def _list(operations: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(operations) + b"]"


def _arguments(block: Block | None) -> dict[str, Any]:
    return block.arguments if block else {}


def _answer(given: Any) -> Answer:
    index, data = given
    return Answer(index=int(index or 0), data=data)


def _found(response: Any) -> Any:
    return None if response.code == 404 else json.loads(response.body)


def _names(response: Any) -> frozenset[str]:
    return frozenset(orjson.loads(response.body))


def _txn(response: Any) -> TxnResult:
    if response.code == 200:
        return TxnResult(written=tuple(_APPLIED.validate_json(response.body).results or ()))
    if response.code == 409:
        errors = json.loads(response.body)["Errors"] or ()
        return TxnResult(errors=tuple((error["OpIndex"], error["What"]) for error in errors))
    message = f"Consul answered {response.code} to a transaction: {response.body[:300]}"
    raise RegistryUnavailable(message)


def _allowed(response: Any) -> list[bool] | None:
    """Consul's word on each right, in the order asked; None where ACL are off."""
    if response.code == 401:
        return None
    if response.code != 200:
        message = f"Consul does not say what the token may do ({response.code}): {response.body[:200]}"
        raise ConsulDenied(message)
    return [one["Allow"] for one in json.loads(response.body)]
