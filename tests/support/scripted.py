"""Peers of other makes, played by a script: plain grpcio, raw protocol messages, and whatever behaviour a test wants.

They share no code with the agent but the generated messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status

from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha1 import resourcediscovery_pb2 as one
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha2 import resourcediscovery_pb2 as two
from hamlet_core.wire._gen.federation.types.v1alpha1 import federated_service_pb2 as types_one
from hamlet_core.wire._gen.federation.types.v1alpha2 import federated_service_pb2 as types_two
from tests.support.meshes import Mesh

URL = {
    "v1alpha1": "type.googleapis.com/federation.types.v1alpha1.FederatedService",
    "v1alpha2": "type.googleapis.com/federation.types.v1alpha2.FederatedService",
}
METHOD = {api: f"/federation.resourcediscovery.{api}.DiscoveryService/EstablishStream" for api in URL}
CREATE, UPDATE, DELETE_ONE = 1, 2, 3
SILENCE = 100.0
"""So many seconds of it end a script: what others do takes its time on a busy machine."""
UPSERT, DELETE_TWO = 1, 2


def service_one(name: str, **changes: Any) -> types_one.FederatedService:
    fields: dict[str, Any] = {
        "name": name.partition(".")[0],
        "fqdn": name,
        "id": name,
        "san": "spiffe://east.example/gateway",
        "protocols": ["HTTP"],
        "endpoints": [types_one.FederatedService.Endpoint(address="192.0.2.7", port=443)],
    }
    return types_one.FederatedService(**(fields | changes))


def service_two(name: str, **changes: Any) -> types_two.FederatedService:
    fields: dict[str, Any] = {
        "name": name,
        "fqdn": name,
        "sans": ["URI:spiffe://east.example/gateway"],
        "instances": [types_two.FederatedService.Instance(id="http", protocol="HTTP", metadata={"sni": name})],
        "endpoints": [types_two.FederatedService.Endpoint(address="192.0.2.7", port=443)],
    }
    return types_two.FederatedService(**(fields | changes))


def response_one(service: types_one.FederatedService, operation: int = CREATE, nonce: str = "") -> one.StreamResponse:
    resource = AnyMessage(type_url=URL["v1alpha1"], value=service.SerializeToString())
    return one.StreamResponse(nonce=nonce, resource_url=URL["v1alpha1"], resource=resource, operation=operation)  # type: ignore[arg-type]


def upsert(service: types_two.FederatedService, nonce: str = "1", **changes: Any) -> two.BidirectionalStream:
    fields: dict[str, Any] = {
        "nonce": nonce,
        "resource_url": URL["v1alpha2"],
        "resource_id": service.name,
        "resource": AnyMessage(type_url=URL["v1alpha2"], value=service.SerializeToString()),
        "operation": UPSERT,
    }
    return two.BidirectionalStream(response=two.StreamResponse(**(fields | changes)))


def delete(name: str, nonce: str = "1") -> two.BidirectionalStream:
    fields: dict[str, Any] = {"resource_url": URL["v1alpha2"], "resource_id": name, "operation": DELETE_TWO}
    return two.BidirectionalStream(response=two.StreamResponse(nonce=nonce, **fields))


def subscribe_two(context: str = "") -> two.BidirectionalStream:
    return two.BidirectionalStream(request=two.StreamRequest(resource_url=URL["v1alpha2"], context=context))


def ack(nonce: str, code: int = 0, message: str = "") -> two.BidirectionalStream:
    status = Status(code=code, message=message)
    request = two.StreamRequest(resource_url=URL["v1alpha2"], response_nonce=nonce, status=status)
    return two.BidirectionalStream(request=request)


class Wire:
    """One stream, from the script's side: messages in, messages out."""

    def __init__(self, call: Any, reads: Any) -> None:
        self.call = call
        self._reads = reads

    async def send(self, message: Any) -> None:
        await self.call.write(message.SerializeToString())

    async def receive(self) -> Any:
        """The next message, or None at the end of the stream."""
        frame = await asyncio.wait_for(self.call.read(), SILENCE)
        return None if frame is grpc.aio.EOF else self._reads.FromString(frame)

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; returns how the dialled side ended the stream."""
        with suppress(grpc.aio.AioRpcError):
            while await self.receive() is not None:
                pass
        return await self.call.code(), await self.call.details()

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Read on to the first message that is `wanted`."""
        while True:
            message = await self.receive()
            assert message is not None, "the stream ended before what was waited for"
            if wanted(message):
                return message


Script = Callable[[Wire], Awaitable[None]]


@dataclass
class ScriptedServer:
    """A foreign mesh that is dialled: each stream runs the script of its version."""

    mesh: Mesh
    scripts: dict[str, Script]
    streams: int = 0
    open: int = 0
    crashes: list[BaseException] = field(default_factory=list)


@asynccontextmanager
async def serving(
    mesh: Mesh, trusted: Mesh, options: list[tuple[str, int]] | None = None, **scripts: Script
) -> AsyncIterator[ScriptedServer]:
    """Serve on the mesh's port with its certificate; only versions with a script are implemented."""
    scripted = ScriptedServer(mesh, scripts)
    server = grpc.aio.server(options=options)
    for api, script in scripts.items():
        reads = one.StreamRequest if api == "v1alpha1" else two.BidirectionalStream

        async def handle(requests: Any, context: Any, script: Script = script, reads: Any = reads) -> None:
            del requests
            scripted.streams += 1
            scripted.open += 1
            try:
                await script(Wire(context, reads))
            except (AssertionError, TypeError, ValueError) as error:
                scripted.crashes.append(error)
                raise
            finally:
                scripted.open -= 1

        _, service, method = METHOD[api].split("/")
        handler = grpc.stream_stream_rpc_method_handler(handle)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    pki = mesh.folder / "pki"
    pair = ((pki / "agent.key").read_bytes(), (pki / "agent.crt").read_bytes())
    credentials = grpc.ssl_server_credentials([pair], trusted.bundle.read_bytes(), require_client_auth=True)
    assert server.add_secure_port(mesh.address, credentials) == mesh.port
    await server.start()
    try:
        yield scripted
    finally:
        await server.stop(None)
    assert not scripted.crashes, scripted.crashes


@asynccontextmanager
async def dialling(
    mesh: Mesh, target: Mesh, api: str = "v1alpha2", metadata: tuple[tuple[str, str], ...] = (), **options: Any
) -> AsyncIterator[Wire]:
    """Dial another mesh's agent as a plain gRPC client with this mesh's certificate."""
    pki = mesh.folder / "pki"
    credentials = grpc.ssl_channel_credentials(
        target.bundle.read_bytes(), (pki / "agent.key").read_bytes(), (pki / "agent.crt").read_bytes()
    )
    channel_options = [("grpc.ssl_target_name_override", f"agent.{target.trust_domain}"), *options.items()]
    async with grpc.aio.secure_channel(target.address, credentials, options=channel_options) as channel:
        call = channel.stream_stream(METHOD[api])(wait_for_ready=True, timeout=600, metadata=metadata)
        try:
            yield Wire(call, one.StreamResponse if api == "v1alpha1" else two.BidirectionalStream)
        finally:
            call.cancel()
