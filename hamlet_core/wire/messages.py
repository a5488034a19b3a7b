"""What two meshes say to each other, whatever the protocol version.

A consumer says `Subscribe` and `Answer`; an owner says `Offer`, `Withdraw` and `SnapshotEnd`. `Unreadable`
is what became of an owner's message that cannot be understood: it is refused by its nonce, the rest goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from hamlet_core.api.errors import HamletError
from hamlet_core.api.model import FederatedService

OK = 0
"""`google.rpc.Code.OK`: the answer is an ACK. Any other code is a NACK."""


class WireError(HamletError):
    """A frame that is no message of the protocol at all: the stream cannot go on."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The consumer's first request. `context` names the agreed federation (v1alpha2; else empty)."""

    resource_url: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The consumer's answer to the message with this nonce: a `google.rpc.Code` and, for a NACK, why."""

    nonce: str
    code: int = OK
    message: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """The owner publishes `service` to us, for the first time or changed."""

    nonce: str
    service: FederatedService

    @property
    def name(self) -> str:
        """The key of the service in its owner's catalog."""
        return self.service.name


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The owner withdraws the service with this key."""

    nonce: str
    name: str


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """Extension `snapshot`: everything in the owner's catalog has been sent on this stream."""

    nonce: str
    services: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An owner's message that breaks the protocol; `name` is the service it is about where that is known."""

    nonce: str
    name: str
    reason: str


FromOwner: TypeAlias = Offer | Withdraw | SnapshotEnd | Unreadable
FromConsumer: TypeAlias = Subscribe | Answer
Message: TypeAlias = FromOwner | FromConsumer


class Codec(Protocol):
    """One version of the protocol. Frames are the payloads of gRPC messages, in either direction."""

    api: str
    """The version's name in the configuration: `v1alpha1` or `v1alpha2`."""
    service: str
    """The full name of the gRPC service."""
    resource_url: str
    """The type URL of the version's FederatedService."""
    bidirectional: bool
    """Whether one stream carries both roles of both sides."""

    def pack(self, service: FederatedService) -> bytes:
        """Serialise `service` once; what `offer` puts a nonce and a context around."""

    def losses(self, service: FederatedService) -> tuple[str, ...]:
        """What of `service` this version cannot say, one sentence each."""

    def offer(self, nonce: str, packed: bytes, context: str, *, created: bool) -> bytes:
        """An owner's frame that publishes; `created` is false when the consumer is known to have it already."""

    def withdraw(self, nonce: str, name: str, context: str) -> bytes:
        """An owner's frame that withdraws."""

    def snapshot_end(self, nonce: str, services: int, context: str) -> bytes:
        """An owner's frame that ends the catalog (extension `snapshot`)."""

    def subscribe(self, context: str) -> bytes:
        """A consumer's first frame."""

    def answer(self, answer: Answer, context: str) -> bytes:
        """A consumer's ACK or NACK."""

    def read(self, frame: bytes, *, from_server: bool) -> tuple[Message, ...]:
        """The messages in a frame, sent by the serving or by the dialling side; `WireError` if it is none."""
