"""What a proxy of Consul checks of an owner's certificate, asked of a real Envoy: the rule of `links.covers`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hamlet_consul.links import covers

from hamlet_core.api.testing.minting import Leaf, Mint
from tests.backends.file_envoy import envoy_binary
from tests.support.ports import free_port

SNI = "stock.east.example"
SANS = (SNI, "Stock.East.Example", "*.east.example", "*.example", "x.east.example", "*.stock.east.example")
SPIFFE = "spiffe://east.example/ingress"
EAST, OTHER = Mint("east"), Mint("other")
WITHIN = 60.0


def tls(folder: Path, sni: str) -> dict[str, Any]:
    """The context that Consul makes of a link (its `agent/xds`): the SNI, if any, is the one name accepted."""
    own = {"certificate_chain": {"filename": f"{folder}/own.crt"}, "private_key": {"filename": f"{folder}/own.key"}}
    checked: dict[str, Any] = {"trusted_ca": {"filename": f"{folder}/ca.pem"}}
    if sni:
        checked["match_typed_subject_alt_names"] = [
            {"san_type": kind, "matcher": {"exact": sni}} for kind in ("DNS", "URI")
        ]
    return {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"tls_certificates": [own], "validation_context": checked},
        **({"sni": sni} if sni else {}),
    }


def static(name: str, listen: int, owner: int, context: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A listener and its cluster."""

    def place(port: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": name,
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": place(owner)}}]}]
    return (
        {
            "name": name,
            "address": place(listen),
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
        },
        {
            "name": name,
            "connect_timeout": "60s",
            "load_assignment": {"cluster_name": name, "endpoints": endpoints},
            "transport_socket": {"name": "tls", "typed_config": context},
        },
    )


@contextlib.contextmanager
def owner(folder: Path, leaf: Leaf, name: str) -> Iterator[int]:
    """An ingress with this certificate that greets whoever completes the handshake; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*leaf.write(folder, name))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError):
                plain.settimeout(WITHIN)
                with context.wrap_socket(plain, server_side=True) as secure:
                    secure.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(2 * WITHIN)


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, bool], bool]]:
    """Whether a call gets through, by the name of the owner's certificate and whether the link has an SNI."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "ca.pem").write_bytes(EAST.pem)
    OTHER.leaf("spiffe://west.example/agent").write(folder, "own")
    leaves = {san: EAST.leaf(dns=[san]) for san in SANS} | {
        SPIFFE: EAST.leaf(SPIFFE),
        "other authority": OTHER.leaf(dns=[SNI]),
    }
    binary = str(envoy_binary())
    with contextlib.ExitStack() as stack:
        ports: dict[tuple[str, bool], int] = {}
        made: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for number, (san, leaf) in enumerate(leaves.items()):
            upstream = stack.enter_context(owner(folder, leaf, f"owner{number}"))
            for with_sni in (True, False):
                ports[san, with_sni] = free_port()
                context = tls(folder, SNI if with_sni else "")
                made.append(static(f"c{len(made)}", ports[san, with_sni], upstream, context))
        resources = {"listeners": [each[0] for each in made], "clusters": [each[1] for each in made]}
        (folder / "envoy.json").write_text(json.dumps({"static_resources": resources}))
        command = [binary, "-c", str(folder / "envoy.json"), "--concurrency", "1", "--use-dynamic-base-id"]
        process = subprocess.Popen([*command, "-l", "error"], stdin=subprocess.DEVNULL, env=dict(os.environ))
        try:
            yield {place: greeted(port) for place, port in ports.items()}
        finally:
            process.terminate()
            process.wait(WITHIN)


def greeted(port: int) -> bool:
    """Whether the owner's greeting comes through; waits until Envoy listens."""
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as connection:
                try:
                    return connection.recv(16) == b"hello"
                except ConnectionResetError:
                    return False
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "Envoy does not listen"
            time.sleep(0.05)


@pytest.mark.parametrize("san", [*SANS, SPIFFE])
def test_a_certificate_passes_with_an_sni_exactly_when_it_covers_that(
    reached: dict[tuple[str, bool], bool], san: str
) -> None:
    assert reached[san, True] is covers(san, SNI)


@pytest.mark.parametrize("san", [*SANS, SPIFFE])
def test_without_an_sni_any_certificate_of_the_authority_passes(
    reached: dict[tuple[str, bool], bool], san: str
) -> None:
    assert reached[san, False]


@pytest.mark.parametrize("with_sni", [True, False])
def test_no_certificate_of_another_authority_passes(reached: dict[tuple[str, bool], bool], with_sni: bool) -> None:
    assert not reached["other authority", with_sni]
