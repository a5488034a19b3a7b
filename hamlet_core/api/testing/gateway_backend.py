"""What the gateway contract needs to know of the world around a gateway: who calls, who is called, who vouches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from hamlet_core.api import AdapterContext, Endpoint, ImportRoute, Ingress, PublishRoute, Route, Trust


class Connection(ABC):
    """A connection that somebody has made, to a workload that answers every question with its word."""

    @abstractmethod
    def ask(self) -> str | None:
        """The word of the workload at the other end; None once the connection is cut."""

    @abstractmethod
    def close(self) -> None:
        """Hang up. Closing twice does nothing."""


class GatewayBackend(ABC):
    """The world of one test: a gateway of this mesh, workloads here, and other meshes with authorities of their own.

    The gateway is looked at through its hooks alone; these methods are everybody else. A connection is refused
    when it comes to nothing before the workload has said its word: in the handshake, or cut right after it.
    """

    @abstractmethod
    def open(self, context: AdapterContext) -> object:
        """Open a new adapter on this gateway, as a (re)started agent does; what the gateway leads stays."""

    @abstractmethod
    def trust(self, *peers: str) -> Trust:
        """Our certificate, and the bundles of these peers as they are now. The domain of `east` is `east.example`."""

    @abstractmethod
    def rotate(self, peer: str) -> None:
        """Give a peer another authority: its workloads show certificates of that one from now on."""

    @abstractmethod
    def serve(self, word: str) -> Endpoint:
        """A workload of this mesh, as the gateway reaches it."""

    @abstractmethod
    def enter(self, ingress: Ingress, sni: str, peer: str | None, *, signed_by: str = "") -> Connection | None:
        """Connect to the ingress as a workload of `peer` (None: without a certificate); None when it is refused.

        Its certificate is for the peer's trust domain, by the peer's own authority or that of another.
        """

    @abstractmethod
    def presented(self, ingress: Ingress, sni: str) -> Collection[str]:
        """The SANs of the certificate that the ingress shows to who asks for `sni`, which is published.

        They are without a `URI:` before them.
        """

    @abstractmethod
    def owner(self, peer: str, word: str, sans: Collection[str], *, signed_by: str = "") -> Endpoint:
        """The ingress of another mesh, with a certificate of these SANs, by its own authority or that of another."""

    def sans(self, peer: str, workload: str = "ingress") -> tuple[str, ...]:
        """What a workload of a peer presents, in the kind of names that this gateway checks; SPIFFE IDs."""
        return (f"spiffe://{peer}.example/{workload}",)

    @abstractmethod
    def leave(self, imported: ImportRoute, route: Route) -> Connection | None:
        """Connect to an imported service as a workload of this mesh, by its first instance; None when refused."""

    @abstractmethod
    def outage(self) -> AbstractContextManager[None]:
        """Make the gateway take nothing while the context lasts; what it leads stays."""

    def close(self) -> None:  # noqa: B027 - most need none
        """Take out what is left of it, and release everything; `hamlet verify-adapter` calls it once, at the end."""

    def hide(self) -> AbstractContextManager[None] | None:
        """Let nobody know how the mesh is reached meanwhile; None where the options settle it."""
        return None

    def register(self, name: str, endpoints: Sequence[Endpoint]) -> str:
        """Have the mesh know a service of these endpoints, where its gateway leads to those alone; its name there.

        Called again for a name whose endpoints are others by now. A gateway that takes any endpoint needs none.
        """
        del endpoints
        return name

    def spoil(self, route: PublishRoute) -> PublishRoute | None:
        """Return the route in a form that this gateway refuses; None where it refuses no route into this mesh."""
        del route
        return None
