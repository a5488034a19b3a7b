"""The world around a gateway under test, but for the gateway: authorities, workloads and ingresses on loopback.

Everybody is real here: certificates, TLS handshakes and connections. A connection that hangs is an error, and no
refusal.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from pathlib import Path

from cryptography import x509

from hamlet_core.api import Endpoint, ImportRoute, Ingress, PeerTrust, Route, Trust
from hamlet_core.api.testing.gateway_backend import Connection, GatewayBackend
from hamlet_core.api.testing.minting import Leaf, Mint, usage

PATIENCE = 20.0
"""Seconds that a handshake or an answer may take."""
QUESTION = b"?"
_SIGNING = [(usage("digital_signature"), True)]
_KINDS: tuple[type[x509.UniformResourceIdentifier | x509.DNSName], ...] = (
    x509.UniformResourceIdentifier,
    x509.DNSName,
)


class Workload:
    """A TCP server on loopback that answers every question with `word`; behind TLS where `secured` gives a context.

    `secured` is asked at each connection, so that a certificate that changes is shown to the next one.
    """

    def __init__(self, word: str, secured: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._answer = f"{word}\n".encode()
        self._secured = secured
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name=f"workload {word}", daemon=True)]
        self.endpoint = Endpoint(address="127.0.0.1", port=self._socket.getsockname()[1])
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            connection.settimeout(PATIENCE)
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name="workload", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with (
                connection
                if self._secured is None
                else self._secured().wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                ) as channel
            ):
                self._connections.append(channel)
                if isinstance(channel, ssl.SSLSocket):
                    channel.do_handshake()
                while asked := channel.recv(4096):
                    channel.sendall(self._answer * asked.count(QUESTION))
        except OSError:  # whoever called is gone, or was not let in
            connection.close()

    def close(self) -> None:
        """End it, and what it has open."""
        with suppress(OSError):  # nobody is connected to what listens
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._threads[0].join(PATIENCE)
        for connection in self._connections:
            with suppress(OSError):  # closed before
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(PATIENCE)


class SocketConnection(Connection):
    """A connection over a socket, with TLS or without."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def ask(self) -> str | None:
        """See `Connection`; `TimeoutError` when neither an answer nor an end comes."""
        heard = b""
        try:
            self._channel.sendall(QUESTION)
            while not heard.endswith(b"\n"):
                piece = self._channel.recv(4096)
                if not piece:
                    return None
                heard += piece
        except TimeoutError:
            raise
        except OSError:
            return None
        return heard.decode().strip()

    def close(self) -> None:
        """See `Connection`."""
        self._channel.close()


class GatewayWorld(GatewayBackend):
    """Everybody but the gateway, whose certificate is that of `gateway` in `own`, the mesh under test.

    A subclass opens the gateway and makes its outages. `folder` is where certificates lie while they are used.
    """

    def __init__(self, folder: Path, own: str = "west") -> None:
        self._folder = folder
        self._own = own
        self._generations: Counter[str] = Counter()
        self._mint = cache(self._new_mint)
        self._workloads: list[Workload] = []
        self._ours = self.authority(own).leaf(
            f"spiffe://{own}.example/gateway", dns=(f"*.{own}.example",), extensions=_SIGNING
        )

    def authority(self, mesh: str) -> Mint:
        """The authority of a mesh as it is now."""
        return self._mint(mesh, self._generations[mesh])

    def trust(self, *peers: str) -> Trust:
        """See `GatewayBackend`."""
        return Trust(
            certificate=self._ours.pem.decode(),
            key=self._ours.key_pem.decode(),
            peers=tuple(
                PeerTrust(peer=peer, trust_domain=f"{peer}.example", bundle=self.authority(peer).pem.decode())
                for peer in peers
            ),
        )

    def rotate(self, peer: str) -> None:
        """See `GatewayBackend`."""
        self._generations[peer] += 1

    def serve(self, word: str) -> Endpoint:
        """See `GatewayBackend`."""
        self._workloads.append(Workload(word))
        return self._workloads[-1].endpoint

    def enter(self, ingress: Ingress, sni: str, peer: str | None, *, signed_by: str = "") -> Connection | None:
        """See `GatewayBackend`."""
        leaf = None
        if peer is not None:
            leaf = self.authority(signed_by or peer).leaf(f"spiffe://{peer}.example/caller", extensions=_SIGNING)
        try:
            return SocketConnection(self._handshake(ingress, sni, leaf))
        except TimeoutError:
            raise
        except OSError:  # an alert, or the end
            return None

    def presented(self, ingress: Ingress, sni: str) -> Collection[str]:
        """See `GatewayBackend`."""
        with self._handshake(ingress, sni, None) as channel:
            shown = channel.getpeercert(binary_form=True)
        assert shown is not None
        names = x509.load_der_x509_certificate(shown).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return [name for kind in _KINDS for name in names.value.get_values_for_type(kind)]

    def owner(self, peer: str, word: str, sans: Collection[str], *, signed_by: str = "") -> Endpoint:
        """See `GatewayBackend`."""
        uris = [san for san in sans if "://" in san]
        dns = [san for san in sans if "://" not in san]

        def secured() -> ssl.SSLContext:
            leaf = self.authority(signed_by or peer).leaf(*uris, dns=dns, extensions=_SIGNING)
            return self._context(ssl.PROTOCOL_TLS_SERVER, leaf)

        self._workloads.append(Workload(word, secured))
        return self._workloads[-1].endpoint

    def leave(self, imported: ImportRoute, route: Route) -> Connection | None:
        """See `GatewayBackend`; as a workload that leaves TLS to the gateway."""
        assert route.originates_tls, "a workload of this world calls without TLS"
        (place, *_) = route.endpoints[imported.service.instances[0].id]
        try:
            return SocketConnection(socket.create_connection((place.address, place.port), timeout=PATIENCE))
        except ConnectionError:
            return None

    def close(self) -> None:
        """End the workloads."""
        for each in self._workloads:
            each.close()

    def _new_mint(self, mesh: str, generation: int) -> Mint:
        return Mint(f"authority {generation} of {mesh}")

    def _handshake(self, ingress: Ingress, sni: str, leaf: Leaf | None) -> ssl.SSLSocket:
        """Connect to the first address of an ingress, which must show a certificate of our authority."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, leaf)
        place = ingress.endpoints[0]
        raw = socket.create_connection((place.address, place.port), timeout=PATIENCE)
        try:
            return context.wrap_socket(raw, server_hostname=sni)
        except BaseException:
            raw.close()
            raise

    def _context(self, side: int, leaf: Leaf | None) -> ssl.SSLContext:
        """Show `leaf`, and believe the authority of the mesh under test alone."""
        context = ssl.SSLContext(side)
        context.check_hostname = False  # the names are compared where a rule is about them
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.authority(self._own).pem.decode())
        if leaf is not None:
            context.load_cert_chain(*leaf.write(Path(tempfile.mkdtemp(dir=self._folder))))
        return context
