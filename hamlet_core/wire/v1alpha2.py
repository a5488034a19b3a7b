"""The codec of v1alpha2: one bidirectional stream, services with instances and several SANs."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from hamlet_core.api.model import Endpoint, FederatedService, Instance
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha2.resourcediscovery_pb2 import (
    BidirectionalStream,
    StreamRequest,
    StreamResponse,
)
from hamlet_core.wire._gen.federation.types.v1alpha2 import federated_service_pb2 as pb
from hamlet_core.wire._gen.hamlet.extensions.v1 import extensions_pb2
from hamlet_core.wire.messages import (
    Answer,
    FromConsumer,
    FromOwner,
    Message,
    Offer,
    SnapshotEnd,
    Subscribe,
    Unreadable,
    WireError,
    Withdraw,
)
from hamlet_core.wire.service import plain_san

_RESPONSE_TAG = b"\x12"  # BidirectionalStream.response: field 2, length-delimited
_ANY_PREFIX = "type.googleapis.com/"
SNAPSHOT_END_URL = _ANY_PREFIX + extensions_pb2.SnapshotEnd.DESCRIPTOR.full_name


def to_message(service: FederatedService) -> pb.FederatedService:
    """The wire form of a service."""
    return pb.FederatedService(
        name=service.name,
        description=service.description,
        tags=service.tags,
        labels=service.labels,
        fqdn=service.fqdn,
        endpoints=[
            pb.FederatedService.Endpoint(address=e.address, port=e.port, labels=e.labels, description=e.description)
            for e in service.endpoints
        ],
        sans=service.sans,
        instances=[
            pb.FederatedService.Instance(
                id=i.id,
                protocol=i.protocol,
                metadata=i.metadata,
                endpoint_selector=i.endpoint_selector,
                description=i.description,
            )
            for i in service.instances
        ],
    )


def from_message(message: pb.FederatedService) -> FederatedService:
    """The neutral form of a service; it is validated elsewhere."""
    return FederatedService(
        name=message.name,
        description=message.description,
        tags=tuple(message.tags),
        labels=dict(message.labels),
        fqdn=message.fqdn,
        endpoints=tuple(
            Endpoint(address=e.address, port=e.port, labels=tuple(e.labels), description=e.description)
            for e in message.endpoints
        ),
        sans=tuple(plain_san(san) for san in message.sans),
        instances=tuple(
            Instance(
                id=i.id,
                protocol=i.protocol,
                metadata=dict(i.metadata),
                endpoint_selector=tuple(i.endpoint_selector),
                description=i.description,
            )
            for i in message.instances
        ),
    )


def varint(number: int) -> bytes:
    """A base-128 varint of the protobuf wire format."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


class V1Alpha2:
    """`federation.resourcediscovery.v1alpha2` (`wire.messages.Codec`)."""

    api = "v1alpha2"
    service = "federation.resourcediscovery.v1alpha2.DiscoveryService"
    resource_url = _ANY_PREFIX + pb.FederatedService.DESCRIPTOR.full_name
    bidirectional = True

    def pack(self, service: FederatedService) -> bytes:
        """Everything of an upsert but nonce and context: fields of a message may be concatenated."""
        body = to_message(service).SerializeToString(deterministic=True)
        return StreamResponse(
            resource_url=self.resource_url,
            resource_id=service.name,
            resource=Any(type_url=self.resource_url, value=body),
            operation=StreamResponse.UPSERT,
        ).SerializeToString()

    def losses(self, service: FederatedService) -> tuple[str, ...]:
        """Nothing: the neutral model is this version's."""
        del service
        return ()

    def offer(self, nonce: str, packed: bytes, context: str, *, created: bool) -> bytes:
        """An upsert; this version does not tell creation from change."""
        del created
        return self._response(StreamResponse(nonce=nonce, context=context).SerializeToString() + packed)

    def withdraw(self, nonce: str, name: str, context: str) -> bytes:
        """A DELETE by `resource_id`."""
        response = StreamResponse(
            nonce=nonce,
            resource_url=self.resource_url,
            resource_id=name,
            operation=StreamResponse.DELETE,
            context=context,
        )
        return self._response(response.SerializeToString())

    def snapshot_end(self, nonce: str, services: int, context: str) -> bytes:
        """The end of the catalog."""
        body = extensions_pb2.SnapshotEnd(services=services).SerializeToString()
        response = StreamResponse(
            nonce=nonce,
            resource_url=SNAPSHOT_END_URL,
            resource=Any(type_url=SNAPSHOT_END_URL, value=body),
            context=context,
        )
        return self._response(response.SerializeToString())

    @staticmethod
    def _response(body: bytes) -> bytes:
        return _RESPONSE_TAG + varint(len(body)) + body

    def subscribe(self, context: str) -> bytes:
        """The first request of a consumer."""
        request = StreamRequest(resource_url=self.resource_url, context=context)
        return BidirectionalStream(request=request).SerializeToString()

    def answer(self, answer: Answer, context: str) -> bytes:
        """An ACK or a NACK."""
        request = StreamRequest(
            resource_url=self.resource_url,
            response_nonce=answer.nonce,
            status=Status(code=answer.code, message=answer.message),
            context=context,
        )
        return BidirectionalStream(request=request).SerializeToString()

    def read(self, frame: bytes, *, from_server: bool) -> tuple[Message, ...]:
        """A frame may carry a request, a response, or both, whichever side sends it."""
        del from_server
        try:
            stream = BidirectionalStream.FromString(frame)
        except DecodeError as error:
            message = f"a frame of {len(frame)} bytes is no BidirectionalStream of {self.service}"
            raise WireError(message) from error
        messages: list[Message] = []
        if stream.HasField("request"):
            messages.append(read_request(stream.request))
        if stream.HasField("response"):
            messages.append(self._read_response(stream.response))
        return tuple(messages)

    def _read_response(self, response: StreamResponse) -> FromOwner:
        nonce, url, operation = response.nonce, response.resource.type_url, response.operation
        if url == SNAPSHOT_END_URL:
            return read_snapshot_end(nonce, response.resource.value)
        service = pb.FederatedService()
        if url == self.resource_url:
            try:
                service.ParseFromString(response.resource.value)
            except DecodeError as error:
                return Unreadable(nonce, response.resource_id, f"the resource is no FederatedService: {error}")
        name = response.resource_id or service.name
        if operation == StreamResponse.DELETE:
            return Withdraw(nonce, name) if name else Unreadable(nonce, "", "a DELETE without resource_id")
        if operation != StreamResponse.UPSERT:
            return Unreadable(nonce, name, f"unknown operation {operation}; UPSERT and DELETE are known")
        if url != self.resource_url:
            return Unreadable(nonce, name, f"unknown resource {url or '(none)'!r}; {self.resource_url} is known")
        if service.name and response.resource_id and service.name != response.resource_id:
            reason = f"resource_id {response.resource_id!r} and the service's name {service.name!r} differ"
            return Unreadable(nonce, response.resource_id, reason)
        if not service.name:
            service.name = name
        return Offer(nonce, from_message(service))


def read_snapshot_end(nonce: str, value: bytes) -> FromOwner:
    """The `snapshot` extension's mark, alike in both versions."""
    try:
        return SnapshotEnd(nonce, extensions_pb2.SnapshotEnd.FromString(value).services)
    except DecodeError as error:
        return Unreadable(nonce, "", f"the resource is no SnapshotEnd: {error}")


def read_request(request: StreamRequest) -> FromConsumer:
    """A request with neither nonce nor status subscribes; every other one answers, OK without a status."""
    if not request.response_nonce and not request.HasField("status"):
        return Subscribe(request.resource_url, request.context)
    return Answer(request.response_nonce, request.status.code, request.status.message)
