"""Meshes with a real Envoy each, with real certificates; small real servers and clients."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hamlet_envoy.gateway import EnvoyGateway
from hamlet_envoy.options import EnvoyOptions

from hamlet_core.api import (
    AdapterContext,
    Endpoint,
    FederatedService,
    ImportRoute,
    Instance,
    PeerTrust,
    Protocol,
    PublishRoute,
    Route,
    ServicePort,
    Trust,
)
from hamlet_core.api.testing.minting import Leaf, Mint, usage
from tests.support.ports import free_port, free_range

DEADLINE = 40.0
SIGNING = [(usage("digital_signature"), True)]


def wait_for(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    end = time.monotonic() + deadline
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"no {what} within {deadline} s")
        time.sleep(0.02)
    return found


class Server:
    """A TCP server on loopback: greets, then echoes what it gets, with its name before each piece."""

    def __init__(self, name: str = "", greeting: bytes = b"") -> None:
        self.name, self.greeting = name.encode(), greeting
        self.accepted = 0
        self.received = b""
        self._writing = threading.Lock()  # each connection is served by a thread of its own
        self._closed = False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.endpoint = Endpoint(address="127.0.0.1", port=self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            self._connections.append(connection)
            if self._closed:  # this very moment: nobody else would close it
                connection.close()
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.sendall(self.greeting)
            while data := connection.recv(65536):
                with self._writing:
                    self.received += data
                connection.sendall(self.name + data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):  # closed already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._connections:
            connection.close()


@dataclass
class Mesh:
    """One mesh: its authority, and a gateway on loopback with a real Envoy."""

    name: str
    folder: Path
    mint: Mint = field(default_factory=lambda: Mint("an authority"))
    ports: int = 20
    extra: Mapping[str, Any] = field(default_factory=dict)
    ingress: Mapping[str, Any] | None = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.domain = f"{self.name}.example"
        self.port = free_port()
        self.first = free_range(self.ports)
        self.own = self.leaf("gateway")
        self.gateway = self.open()

    def leaf(self, workload: str, *, dns: Sequence[str] | None = None, domain: str = "") -> Leaf:
        names = (f"*.{self.domain}",) if dns is None else dns
        return self.mint.leaf(f"spiffe://{domain or self.domain}/{workload}", dns=names, extensions=SIGNING)

    @property
    def pid(self) -> int | None:
        """Of the Envoy that the gateway keeps running."""
        process = self.gateway._process
        return process.pid if process else None

    @staticmethod
    def options(listen: int, first: int, ports: int, ingress: Mapping[str, Any] | None, **more: Any) -> EnvoyOptions:
        return EnvoyOptions.model_validate(
            {
                "directory": "envoy",
                "threads": 1,
                "drain": "1s",
                "ingress": None
                if ingress is None
                else {
                    "listen": f"127.0.0.1:{listen}",
                    "advertise": [f"127.0.0.1:{listen}"],
                    **ingress,
                },
                "egress": {
                    "bind": "127.0.0.1",
                    "advertise": "127.0.0.1",
                    "ports": f"{first}-{first + ports - 1}",
                },
                **more,
            }
        )

    def open(self) -> EnvoyGateway:
        context = AdapterContext(
            name="gateway", mesh=self.name, domain=self.domain, trust_domain=self.domain, directory=self.folder
        )
        options = self.options(self.port, self.first, self.ports, self.ingress, **self.extra)
        return EnvoyGateway(options, context)

    def close(self) -> None:
        self.gateway.gateway_close()

    def peer(self, bundle: bytes | None = None) -> PeerTrust:
        """This mesh as others trust it."""
        return PeerTrust(peer=self.name, trust_domain=self.domain, bundle=(bundle or self.mint.pem).decode())

    def trust(self, *peers: PeerTrust, own: Leaf | None = None) -> None:
        self.own = own or self.own
        certificate, key = self.own.pem.decode(), self.own.key_pem.decode()
        assert self.gateway.gateway_trust(Trust(certificate=certificate, key=key, peers=peers)) is True

    def publishes(
        self,
        name: str,
        *servers: Server,
        to: Sequence[str],
        protocol: Protocol = Protocol.TCP,
        port: int = 80,
    ) -> PublishRoute:
        fqdn = f"{name}.{self.domain}"
        return PublishRoute(
            sni=fqdn,
            fqdn=fqdn,
            registry="registry",
            service=name,
            port=ServicePort(name="main", port=port, protocol=protocol),
            endpoints=tuple(server.endpoint for server in servers),
            peers=tuple(to),
        )

    def offers(
        self,
        name: str,
        *,
        protocol: str = "TCP",
        sans: Sequence[str] | None = None,
        endpoints: Sequence[Endpoint] = (),
        sni: str = "",
    ) -> ImportRoute:
        """A service of this mesh as another imports it."""
        fqdn = f"{name}.{self.domain}"
        service = FederatedService(
            name=fqdn,
            fqdn=fqdn,
            endpoints=tuple(endpoints) or (Endpoint(address="127.0.0.1", port=self.port),),
            instances=(Instance(id="main", protocol=protocol, metadata={"SNI": sni} if sni else {}),),
            sans=(f"spiffe://{self.domain}/gateway",) if sans is None else tuple(sans),
        )
        return ImportRoute(peer=self.name, service=service)

    def imports(self, *routes: ImportRoute) -> list[int]:
        """Import `routes` alone; the ports of their one instance each."""
        answers = self.gateway.gateway_import(routes, ())
        ports = []
        for route in routes:
            answer = answers[route.key]
            assert isinstance(answer, Route), answer
            ((endpoint,),) = answer.endpoints.values()
            assert answer.originates_tls
            ports.append(endpoint.port)
        return ports

    def connect(
        self, sni: str | None, leaf: Leaf | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLSocket:
        """A TLS connection to this mesh's ingress, which is checked by hand where that matters."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = newest
        if leaf is not None:
            context.load_cert_chain(*leaf.write(Path(tempfile.mkdtemp(dir=self.folder))))
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        try:
            return context.wrap_socket(raw, server_hostname=sni)
        except BaseException:
            raw.close()
            raise

    def ask(self, sni: str | None, leaf: Leaf | None, data: bytes = b"hello") -> bytes:
        """What comes back for `data`; empty when the ingress refuses the caller, at whatever moment."""
        try:
            with self.connect(sni, leaf) as connection:
                connection.sendall(data)
                return connection.recv(65536)
        except OSError:  # SSLError is one
            return b""


def send(port: int, data: bytes = b"hello") -> bytes:
    """What comes back for `data` from a port of loopback; empty when the connection fails."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
            connection.sendall(data)
            return connection.recv(65536)
    except OSError:
        return b""


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a Unix socket's."""
    folder = Path(tempfile.mkdtemp(prefix="he-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
