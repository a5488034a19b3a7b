"""The workloads of the demo: a service that answers, one that calls through the gateways, one that may not."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CALL_SECONDS = 5.0
"""How long one call may take."""


@contextmanager
def serving(answer: str) -> Iterator[int]:
    """An HTTP service on loopback that answers `answer` to everything; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = f"{answer}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: the demo tells what happens."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def call_service(address: str, host: str) -> str:
    """What `host` answers when a workload calls it at `address` (host:port), or an empty string."""
    try:
        connection = http.client.HTTPConnection(address, timeout=CALL_SECONDS)
        try:
            connection.request("GET", "/", headers={"Host": host})
            reply = connection.getresponse()
            body = reply.read().decode()
            return body if reply.status == http.HTTPStatus.OK else ""
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return ""


def knock(address: str, sni: str, *, bundle: Path, certificate: Path | None = None) -> str:
    """What the ingress at `address` lets through to someone with `certificate` (and its key beside it), if anything.

    `bundle` is whom the caller believes. Returns the service's answer, or an empty string when it was refused.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(bundle)
    if certificate is not None:
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=CALL_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=sni) as stream,
        ):
            stream.sendall(f"GET / HTTP/1.0\r\nHost: {sni}\r\n\r\n".encode())
            said = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
    except OSError:  # a refused certificate is one: in TLS 1.3 it shows at the first read
        return ""
    head, _, body = said.partition("\r\n\r\n")
    return body if " 200 " in head.partition("\r\n")[0] else ""
