"""Two that stand between a client and an API server.

`FaultProxy` is the server as far as the client knows, and answers some requests itself, as one in trouble would.
`ConnectProxy` is a proxy as companies have them: it is told by CONNECT where to go, and sees only TLS.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import selectors
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

Which = Callable[[str, str], bool]
"""Chooses requests by method and path (with its query)."""


HANG_UP, HANG, HOLD = 0, -1, -2


@dataclass(slots=True)
class Fault:
    """Answer `times` requests that `which` chooses with this status.

    `HANG_UP` ends the connection without a word, `HANG` does so when the proxy is healed and not before.
    `HOLD` keeps the request back until then, and passes it on.
    """

    which: Which
    status: int
    times: int = 1_000_000
    headers: dict[str, str] = field(default_factory=dict)
    met: int = 0


class FaultProxy:
    """Forwards to `target` (https) whatever no fault is for. `requests` has (method, path) of every one."""

    def __init__(self, target: str, ca: str) -> None:
        url = urlsplit(target)
        self._host, self._port = url.hostname or "", url.port or 443
        self._context = ssl.create_default_context(cafile=ca)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.under_way: dict[str, int] = {}
        """How many requests of each method are being served."""
        self.most_under_way: dict[str, int] = {}
        self._streams: set[socket.socket] = set()
        self._standing: set[socket.socket] = set()
        self._cuts = 0
        self._lock = threading.Lock()
        self._healed = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                proxy.serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, which: Which, status: int, times: int = 1_000_000, **headers: str) -> Fault:
        """Add a fault; header names with `_` for `-`."""
        fault = Fault(which, status, times, {key.replace("_", "-"): value for key, value in headers.items()})
        self._healed.clear()
        self.faults.append(fault)
        return fault

    def heal(self, *, but: Fault | None = None) -> None:
        """No faults from now on, or one other instead: it is there before anybody who hangs is let go."""
        self.faults = [but] if but is not None else []
        self._healed.set()

    @property
    def watches(self) -> int:
        """How many watches stand: the client has the beginning of the answer."""
        with self._lock:
            return len(self._standing) // 2

    def cut(self) -> None:
        """Break off every watch that stands, or is being opened."""
        with self._lock:
            self._cuts += 1
            streams = list(self._streams)
            self._streams.clear()  # they stand no more, although their threads are yet to notice
            self._standing.clear()
        for each in streams:
            with contextlib.suppress(OSError):  # it ended by itself
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End."""
        self.heal()
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.met < fault.times and fault.which(method, path):
                    fault.met += 1
                    return fault
        return None

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        method = handler.command
        with self._lock:
            self.under_way[method] = self.under_way.get(method, 0) + 1
            self.most_under_way[method] = max(self.most_under_way.get(method, 0), self.under_way[method])
            cuts = self._cuts
        try:
            self._serve(handler, body, cuts)
        finally:
            with self._lock:
                self.under_way[method] -= 1

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes, cuts: int) -> None:
        fault = self._fault(handler.command, handler.path)
        if fault is not None and fault.status == HOLD:
            self._healed.wait(60)
        elif fault is not None:
            self._answer(handler, fault)
            return
        far = http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=60)
        ends: set[socket.socket] = set()
        try:
            headers = {key: value for key, value in handler.headers.items() if key.lower() != "host"}
            far.request(handler.command, handler.path, body=body or None, headers=headers)
            if "watch=true" in handler.path:
                assert far.sock is not None
                ends = {far.sock, handler.connection}
                with self._lock:
                    if self._cuts != cuts:
                        raise ConnectionAbortedError
                    self._streams |= ends
                follow = threading.Thread(target=_hang_up_after, args=(handler.connection, far.sock), daemon=True)
                follow.start()
            self._pass_on(handler, far.getresponse(), ends)
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
        finally:
            with self._lock:
                self._streams -= ends
                self._standing -= ends
            far.close()

    def _answer(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        if fault.status == HANG:
            self._healed.wait(60)
        if fault.status in (HANG, HANG_UP):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        status = {"kind": "Status", "status": "Failure", "message": "said the proxy", "code": fault.status}
        status["reason"] = {409: "Conflict", 429: "TooManyRequests"}.get(fault.status, "InternalError")
        text = json.dumps(status).encode()
        handler.send_response(fault.status)
        for key, value in (
            fault.headers | {"Content-Type": "application/json", "Content-Length": str(len(text))}
        ).items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(text)

    def _pass_on(
        self, handler: BaseHTTPRequestHandler, answer: http.client.HTTPResponse, ends: set[socket.socket]
    ) -> None:
        handler.send_response(answer.status)
        for key in ("Content-Type", "Retry-After"):
            if answer.headers.get(key):
                handler.send_header(key, answer.headers[key])
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with self._lock:
            self._standing |= ends & self._streams
        while part := answer.read1(65536):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")


def _hang_up_after(near: socket.socket, far: socket.socket) -> None:
    """Leave the server once the client, which says nothing during a watch, has hung up."""
    with contextlib.suppress(OSError):  # it ended by itself
        near.recv(1, socket.MSG_PEEK)
        far.shutdown(socket.SHUT_RDWR)


class ConnectProxy:
    """A proxy of HTTP's CONNECT. `authorization`: what it asks for; `tls`: (certificate, key) it speaks TLS with.

    `tunnels` has every `host:port` that was asked for, `refused` how many requests it would not serve.
    """

    def __init__(self, *, authorization: str | None = None, tls: tuple[Path, Path] | None = None) -> None:
        self.tunnels: list[str] = []
        self.refused = 0
        self._ends: set[socket.socket] = set()
        proxy, self._tls = self, tls is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls is not None:
            context.load_cert_chain(*tls)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    words = self.rfile.readline().decode().split()
                    headers = dict(iter(self._header, None))
                    if words[0] != "CONNECT" or headers.get("proxy-authorization") != authorization:
                        proxy.refused += 1
                        self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                        return
                    proxy.tunnels.append(words[1])
                    host, _, port = words[1].rpartition(":")
                    with socket.create_connection((host, int(port)), timeout=10) as far:
                        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                        proxy.join(self.connection, far)

            def _header(self) -> tuple[str, str] | None:
                name, _, value = self.rfile.readline().decode().partition(":")
                return (name.lower(), value.strip()) if value else None

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, address = super().get_request()
                if tls is not None:
                    connection.settimeout(10)
                    connection = context.wrap_socket(connection, server_side=True)
                return connection, address

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Its URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def join(self, near: socket.socket, far: socket.socket) -> None:
        """Carry bytes both ways until one side ends. By one thread: a TLS socket is not for two at a time."""
        ends = {near: far, far: near}
        self._ends |= ends.keys()
        ready = selectors.DefaultSelector()
        for end in ends:
            ready.register(end, selectors.EVENT_READ)
        try:
            while True:
                for source in [key.fileobj for key, _ in ready.select()]:
                    assert isinstance(source, socket.socket)
                    part = source.recv(65536)
                    while isinstance(source, ssl.SSLSocket) and source.pending():
                        part += source.recv(65536)
                    if not part:
                        return
                    ends[source].sendall(part)
        finally:
            ready.close()
            self._ends -= ends.keys()

    def close(self) -> None:
        """End, and everything that goes through it."""
        self._server.shutdown()
        self._server.server_close()
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
