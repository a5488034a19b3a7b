"""The codec of v1alpha1: the consumer dials, a service has one id (SNI), one SAN and a list of protocols.

The neutral model says more than this version can. Towards it, `id` is the server name of the first
instance (its FQDN without one), `san` the first SAN (the FQDN without one), `protocols` those of the
instances in order. From it, each protocol becomes an instance whose server name is `id`. A human-readable
name travels as a label of ours (`wire.service.NAME_LABEL`). What is lost on the way is named by `losses`.
"""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from hamlet_core.api.model import Endpoint, FederatedService, Instance
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha1.resourcediscovery_pb2 import (
    StreamRequest,
    StreamResponse,
)
from hamlet_core.wire._gen.federation.types.v1alpha1 import federated_service_pb2 as pb
from hamlet_core.wire._gen.hamlet.extensions.v1 import extensions_pb2
from hamlet_core.wire.messages import (
    Answer,
    FromConsumer,
    FromOwner,
    Message,
    Offer,
    Subscribe,
    Unreadable,
    WireError,
    Withdraw,
)
from hamlet_core.wire.service import NAME_LABEL, plain_san
from hamlet_core.wire.v1alpha2 import SNAPSHOT_END_URL, read_snapshot_end


def to_message(service: FederatedService) -> pb.FederatedService:
    """The wire form of a service, by the rules of this module."""
    labels = dict(service.labels)
    return pb.FederatedService(
        name=labels.pop(NAME_LABEL, service.name),
        description=service.description,
        tags=service.tags,
        labels=labels,
        fqdn=service.fqdn,
        id=_server_name(service),
        san=next(filter(None, service.sans), service.fqdn),
        protocols=list(dict.fromkeys(instance.protocol for instance in service.instances)),
        endpoints=[pb.FederatedService.Endpoint(address=e.address, port=e.port) for e in service.endpoints],
    )


def from_message(message: pb.FederatedService) -> FederatedService:
    """The neutral form of a service, by the rules of this module; it is validated elsewhere."""
    labels = dict(message.labels)
    if message.name not in ("", message.fqdn):
        labels[NAME_LABEL] = message.name
    metadata = {"SNI": message.id} if message.id else {}
    return FederatedService(
        name=message.fqdn,
        description=message.description,
        tags=tuple(message.tags),
        labels=labels,
        fqdn=message.fqdn,
        endpoints=tuple(Endpoint(address=e.address, port=e.port) for e in message.endpoints),
        sans=(plain_san(message.san),) if message.san else (),
        instances=tuple(
            Instance(id=protocol.lower(), protocol=protocol, metadata=dict(metadata))
            for protocol in dict.fromkeys(protocol.upper() for protocol in message.protocols)
        ),
    )


def _server_name(service: FederatedService) -> str:
    return next((instance.sni for instance in service.instances if instance.sni), service.fqdn)


class V1Alpha1:
    """`federation.resourcediscovery.v1alpha1` (`wire.messages.Codec`)."""

    api = "v1alpha1"
    service = "federation.resourcediscovery.v1alpha1.DiscoveryService"
    resource_url = "type.googleapis.com/" + pb.FederatedService.DESCRIPTOR.full_name
    bidirectional = False

    def pack(self, service: FederatedService) -> bytes:
        """Everything of a creation or update but nonce and operation: fields may be concatenated."""
        body = to_message(service).SerializeToString(deterministic=True)
        return StreamResponse(
            resource_url=self.resource_url, resource=Any(type_url=self.resource_url, value=body)
        ).SerializeToString()

    def losses(self, service: FederatedService) -> tuple[str, ...]:
        """What a consumer of this version does not learn of `service`."""
        names = {instance.sni or service.fqdn for instance in service.instances}
        checks = (
            (len(service.sans) > 1, f"only the first of {len(service.sans)} SANs is sent"),
            (not service.sans, "there is no SAN; the FQDN stands in for it"),
            (len(names) > 1, f"only the first of {len(names)} server names is sent"),
            (
                any(
                    i.endpoint_selector and len(service.endpoints_of(i)) < len(service.endpoints)
                    for i in service.instances
                ),
                "instances use different endpoints; the consumer sees one list",
            ),
        )
        return tuple(reason for lost, reason in checks if lost)

    def offer(self, nonce: str, packed: bytes, context: str, *, created: bool) -> bytes:
        """A CREATE or an UPDATE; this version has no context."""
        del context
        operation = StreamResponse.CREATE if created else StreamResponse.UPDATE
        return StreamResponse(nonce=nonce, operation=operation).SerializeToString() + packed

    def withdraw(self, nonce: str, name: str, context: str) -> bytes:
        """A DELETE, its resource reduced to the key."""
        del context
        body = pb.FederatedService(name=name, fqdn=name).SerializeToString()
        return StreamResponse(
            nonce=nonce,
            resource_url=self.resource_url,
            resource=Any(type_url=self.resource_url, value=body),
            operation=StreamResponse.DELETE,
        ).SerializeToString()

    def snapshot_end(self, nonce: str, services: int, context: str) -> bytes:
        """The end of the catalog."""
        del context
        body = extensions_pb2.SnapshotEnd(services=services).SerializeToString()
        return StreamResponse(
            nonce=nonce, resource_url=SNAPSHOT_END_URL, resource=Any(type_url=SNAPSHOT_END_URL, value=body)
        ).SerializeToString()

    def subscribe(self, context: str) -> bytes:
        """The first request of a consumer."""
        del context
        return StreamRequest(resource_url=self.resource_url).SerializeToString()

    def answer(self, answer: Answer, context: str) -> bytes:
        """An ACK or a NACK."""
        del context
        return StreamRequest(
            resource_url=self.resource_url,
            response_nonce=answer.nonce,
            status=Status(code=answer.code, message=answer.message),
        ).SerializeToString()

    def read(self, frame: bytes, *, from_server: bool) -> tuple[Message, ...]:
        """The server of this version is the owner, the dialling side the consumer."""
        try:
            if from_server:
                return (self._read_response(StreamResponse.FromString(frame)),)
            return (read_request(StreamRequest.FromString(frame)),)
        except DecodeError as error:
            kind = "StreamResponse" if from_server else "StreamRequest"
            message = f"a frame of {len(frame)} bytes is no {kind} of {self.service}"
            raise WireError(message) from error

    def _read_response(self, response: StreamResponse) -> FromOwner:
        nonce, url, operation = response.nonce, response.resource.type_url, response.operation
        if url == SNAPSHOT_END_URL:
            return read_snapshot_end(nonce, response.resource.value)
        if url != self.resource_url:
            return Unreadable(nonce, "", f"unknown resource {url or '(none)'!r}; {self.resource_url} is known")
        try:
            service = pb.FederatedService.FromString(response.resource.value)
        except DecodeError as error:
            return Unreadable(nonce, "", f"the resource is no FederatedService: {error}")
        if operation == StreamResponse.DELETE:
            name = service.fqdn
            return Withdraw(nonce, name) if name else Unreadable(nonce, "", "a DELETE without fqdn")
        if operation not in (StreamResponse.CREATE, StreamResponse.UPDATE):
            reason = f"unknown operation {operation}; CREATE, UPDATE and DELETE are known"
            return Unreadable(nonce, service.fqdn, reason)
        return Offer(nonce, from_message(service))


def read_request(request: StreamRequest) -> FromConsumer:
    """A request with neither nonce nor status subscribes; every other one answers, OK without a status."""
    if not request.response_nonce and not request.HasField("status"):
        return Subscribe(request.resource_url)
    return Answer(request.response_nonce, request.status.code, request.status.message)
