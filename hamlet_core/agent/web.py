"""/metrics, /healthz and /readyz on a loopback port, for a monitoring system and a process supervisor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from hamlet_core.api import HamletError
from hamlet_core.config.model import split_host_port

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class _Quiet(WSGIRequestHandler):
    timeout = 10
    """Seconds for a client to say what it wants."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Scrapes are not worth a line each."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread per request: a client that says nothing must not keep the others waiting, nor us from stopping."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


class WebServer:
    """Serves on threads of its own.

    `ready` says why the agent is not ready, or an empty string; it is called on any thread. Raises
    `HamletError` when `address` cannot be had.
    """

    def __init__(self, address: str, registry: CollectorRegistry, ready: Callable[[], str]) -> None:
        metrics = make_wsgi_app(registry)

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            if path == "/metrics":
                page: Iterable[bytes] = metrics(environ, start_response)
                return page
            reason = ready() if path == "/readyz" else ""
            known = path in ("/healthz", "/readyz")
            status = "404 Not Found" if not known else "503 Service Unavailable" if reason else "200 OK"
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{(reason or 'ok') if known else 'try /metrics, /healthz or /readyz'}\n".encode()]

        host, port = split_host_port(address)
        try:
            self._server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            message = f"cannot listen on {address} for metrics and health: {error.strerror or error}"
            raise HamletError(message, mend="set admin.http to a free port, or to null for none") from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="hamlet-web", daemon=True)

    def start(self) -> None:
        """Begin to serve; once it does, nothing more."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Stop serving; also one that never began."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
