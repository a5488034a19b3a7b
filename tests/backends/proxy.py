"""A plain HTTP proxy in front of an API server that answers some requests itself, as a server in trouble would."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Which = Callable[[str, str], bool]
"""Chooses requests by method and path (with its query)."""


HANG_UP, HANG = 0, -1


@dataclass(slots=True)
class Fault:
    """Answer `times` requests that `which` chooses with this status.

    `HANG_UP` ends the connection without a word, `HANG` does so when the proxy is healed and not before.
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
        self._streams: set[socket.socket] = set()
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

    def heal(self) -> None:
        """No faults from now on."""
        self.faults = []
        self._healed.set()

    @property
    def watches(self) -> int:
        """How many watches stand."""
        with self._lock:
            return len(self._streams) // 2

    def cut(self) -> None:
        """Break off every watch that stands."""
        with self._lock:
            streams = list(self._streams)
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
        fault = self._fault(handler.command, handler.path)
        if fault is not None:
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
                    self._streams |= ends
            self._pass_on(handler, far.getresponse())
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
        finally:
            with self._lock:
                self._streams -= ends
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

    @staticmethod
    def _pass_on(handler: BaseHTTPRequestHandler, answer: http.client.HTTPResponse) -> None:
        handler.send_response(answer.status)
        for key in ("Content-Type", "Retry-After"):
            if answer.headers.get(key):
                handler.send_header(key, answer.headers[key])
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while part := answer.read1(65536):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")
