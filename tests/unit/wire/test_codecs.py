"""Both codecs: what goes in comes out, and the bytes on the wire are what other vendors wrote down."""

from __future__ import annotations

import dataclasses

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from hamlet_core.api import Endpoint, FederatedService, Instance, Protocol
from hamlet_core.wire import v1alpha1, v1alpha2
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha1 import resourcediscovery_pb2 as one
from hamlet_core.wire._gen.federation.resourcediscovery.v1alpha2 import resourcediscovery_pb2 as two
from hamlet_core.wire._gen.federation.types.v1alpha2 import federated_service_pb2
from hamlet_core.wire.messages import (
    Answer,
    Codec,
    Offer,
    SnapshotEnd,
    Subscribe,
    Unreadable,
    WireError,
    Withdraw,
)
from hamlet_core.wire.service import NAME_LABEL
from hamlet_core.wire.v1alpha1 import V1Alpha1
from hamlet_core.wire.v1alpha2 import V1Alpha2

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
words = st.lists(text, max_size=4).map(tuple)
maps = st.dictionaries(text, text, max_size=3)
endpoints = st.builds(Endpoint, address=text, port=st.integers(0, 2**32 - 1), labels=words, description=text)
instances = st.builds(Instance, id=text, protocol=text, metadata=maps, endpoint_selector=words, description=text)
sans = st.lists(text.filter(lambda san: not san.upper().startswith("URI:")), max_size=3).map(tuple)
services = st.builds(
    FederatedService,
    name=text.filter(bool),
    fqdn=text,
    endpoints=st.lists(endpoints, max_size=3).map(tuple),
    instances=st.lists(instances, max_size=3).map(tuple),
    description=text,
    tags=words,
    labels=maps,
    sans=sans,
)

ORDERS = FederatedService(
    name="orders.west.example",
    fqdn="orders.west.example",
    description="takes orders",
    tags=("shop", "v2"),
    labels={"team": "sales", "tier": "1"},
    endpoints=(Endpoint(address="192.0.2.10", port=8443, labels=("edge",), description="ingress"),),
    instances=(
        Instance(
            id="http",
            protocol=Protocol.HTTP2,
            metadata={"SNI": "orders.west.example", "PORT": "80"},
            endpoint_selector=("edge",),
        ),
    ),
    sans=("spiffe://west.example/gateway",),
)


def read_one(codec: Codec, frame: bytes, *, from_server: bool = True) -> object:
    (message,) = codec.read(frame, from_server=from_server)
    return message


@given(services)
def test_v1alpha2_says_everything_the_model_has(service: FederatedService) -> None:
    codec = V1Alpha2()
    frame = codec.offer("n1", codec.pack(service), "shop", created=True)
    assert read_one(codec, frame) == Offer("n1", service)
    assert codec.losses(service) == ()


@given(services)
def test_v1alpha1_says_everything_it_can_and_reading_it_again_changes_nothing(service: FederatedService) -> None:
    codec = V1Alpha1()
    offer = read_one(codec, codec.offer("n1", codec.pack(service), "", created=False))
    assert isinstance(offer, Offer)
    seen = offer.service
    assert (seen.name, seen.fqdn) == (service.fqdn, service.fqdn)
    assert (seen.description, seen.tags) == (service.description, service.tags)
    assert [(e.address, e.port) for e in seen.endpoints] == [(e.address, e.port) for e in service.endpoints]
    assert {i.protocol for i in seen.instances} == {i.protocol.upper() for i in service.instances}
    again = read_one(codec, codec.offer("n2", codec.pack(seen), "", created=False))
    assert again == Offer("n2", seen)


def test_a_v1alpha1_service_that_this_version_can_say_loses_nothing() -> None:
    service = FederatedService(
        name="orders.west.example",
        fqdn="orders.west.example",
        labels={NAME_LABEL: "Orders", "team": "sales"},
        endpoints=(Endpoint(address="192.0.2.10", port=8443),),
        instances=(Instance(id="http2", protocol="HTTP2", metadata={"SNI": "orders"}),),
        sans=("spiffe://west.example/gateway",),
    )
    codec = V1Alpha1()
    assert read_one(codec, codec.offer("n", codec.pack(service), "", created=True)) == Offer("n", service)
    assert codec.losses(service) == ()
    assert v1alpha1.to_message(service).name == "Orders"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sans": ("a.example", "b.example")}, "only the first of 2 SANs"),
        ({"sans": ()}, "the FQDN stands in"),
        (
            {"instances": (ORDERS.instances[0], Instance(id="b", protocol="TCP", metadata={"sni": "b.example"}))},
            "only the first of 2 server names",
        ),
        (
            {"endpoints": (*ORDERS.endpoints, Endpoint(address="192.0.2.11", port=1))},
            "instances use different endpoints",
        ),
    ],
)
def test_what_v1alpha1_cannot_say_is_named(change: dict[str, object], said: str) -> None:
    (loss,) = V1Alpha1().losses(dataclasses.replace(ORDERS, **change))
    assert said in loss


@pytest.mark.parametrize("codec", [V1Alpha1(), V1Alpha2()], ids=lambda codec: codec.api)
class TestEveryVersion:
    def test_a_withdrawal_carries_the_key(self, codec: Codec) -> None:
        assert read_one(codec, codec.withdraw("3", "a.west.example", "ctx")) == Withdraw("3", "a.west.example")

    def test_the_end_of_the_catalog_is_understood(self, codec: Codec) -> None:
        assert read_one(codec, codec.snapshot_end("4", 12, "ctx")) == SnapshotEnd("4", 12)

    def test_a_first_request_subscribes(self, codec: Codec) -> None:
        message = read_one(codec, codec.subscribe("shop"), from_server=False)
        assert message == Subscribe(codec.resource_url, "shop" if codec.bidirectional else "")

    @pytest.mark.parametrize("answer", [Answer("9"), Answer("9", 3, "port 0"), Answer("", 14, "later")])
    def test_an_answer_keeps_nonce_code_and_reason(self, codec: Codec, answer: Answer) -> None:
        assert read_one(codec, codec.answer(answer, "shop"), from_server=False) == answer

    def test_noise_is_an_error_and_not_a_message(self, codec: Codec) -> None:
        with pytest.raises(WireError, match="3 bytes is no"):
            codec.read(b"\xff\xff\xff", from_server=True)

    def test_san_prefixes_are_taken_off(self, codec: Codec) -> None:
        service = dataclasses.replace(ORDERS, sans=("URI:spiffe://west.example/gateway",))
        offer = read_one(codec, codec.offer("1", codec.pack(service), "", created=True))
        assert isinstance(offer, Offer)
        assert offer.service.sans == ("spiffe://west.example/gateway",)


def stream(**fields: object) -> bytes:
    return two.BidirectionalStream(response=two.StreamResponse(**fields)).SerializeToString()  # type: ignore[arg-type]


def packed(**fields: object) -> Any:
    body = federated_service_pb2.FederatedService(**fields).SerializeToString()  # type: ignore[arg-type]
    return Any(type_url=V1Alpha2.resource_url, value=body)


@pytest.mark.parametrize(
    ("frame", "name", "reason"),
    [
        (
            stream(nonce="1", operation=1, resource_id="a", resource=Any(type_url="x/y")),
            "a",
            "unknown resource 'x/y'",
        ),
        (stream(nonce="1", operation=1), "", "unknown resource '(none)'"),
        (stream(nonce="1", operation=9, resource=packed(name="a")), "a", "unknown operation 9"),
        (stream(nonce="1", operation=2), "", "a DELETE without resource_id"),
        (stream(nonce="1", operation=1, resource_id="a", resource=packed(name="b")), "a", "differ"),
        (
            stream(
                nonce="1", operation=1, resource_id="a", resource=Any(type_url=V1Alpha2.resource_url, value=b"\xff")
            ),
            "a",
            "no FederatedService",
        ),
    ],
)
def test_a_response_that_breaks_the_protocol_is_refused_by_its_nonce(frame: bytes, name: str, reason: str) -> None:
    message = read_one(V1Alpha2(), frame)
    assert isinstance(message, Unreadable)
    assert (message.nonce, message.name) == ("1", name)
    assert reason in message.reason


def test_a_v1alpha2_delete_may_carry_the_resource_instead_of_the_id() -> None:
    frame = stream(nonce="1", operation=2, resource=packed(name="a.west.example"))
    assert read_one(V1Alpha2(), frame) == Withdraw("1", "a.west.example")


def test_a_v1alpha2_upsert_may_name_the_service_in_the_resource_id_alone() -> None:
    offer = read_one(V1Alpha2(), stream(nonce="1", operation=1, resource_id="a", resource=packed(fqdn="a.example")))
    assert isinstance(offer, Offer)
    assert offer.name == "a"


def test_an_ack_may_lack_resource_url_and_status() -> None:
    frame = two.BidirectionalStream(request=two.StreamRequest(response_nonce="5")).SerializeToString()
    assert read_one(V1Alpha2(), frame) == Answer("5")
    frame = one.StreamRequest(status=Status(code=0)).SerializeToString()
    assert read_one(V1Alpha1(), frame, from_server=False) == Answer("")


def test_one_frame_may_carry_a_request_and_a_response() -> None:
    frame = two.BidirectionalStream(
        request=two.StreamRequest(response_nonce="5"),
        response=two.StreamResponse(nonce="6", resource_id="a", operation=two.StreamResponse.DELETE),
    ).SerializeToString()
    assert V1Alpha2().read(frame, from_server=True) == (Answer("5"), Withdraw("6", "a"))


@given(st.integers(0, 2**40))
def test_the_length_before_a_response_is_a_varint(number: int) -> None:
    encoded = v1alpha2.varint(number)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == number
    assert all(byte & 0x80 for byte in encoded[:-1])
    assert not encoded[-1] & 0x80
