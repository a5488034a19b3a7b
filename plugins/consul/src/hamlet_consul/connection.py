"""Connections that another thread can end: TCP, TLS or a Unix socket, for urllib3's pools. No HTTP here.

A blocked read ends only when its socket does. So each connection keeps a second handle of its socket, and
`Sockets.shutdown` reaches through these whatever the connection is doing: connecting, in the TLS handshake,
waiting for an answer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A machine that vanished without a word is noticed after 30 s, also within a blocking query."""


class Closed(Exception):
    """The transport was closed on purpose while, or before, a call was made."""


class Sockets:
    """The open sockets of one transport; shut down, it lets no new one come."""

    def __init__(self) -> None:
        self._handles: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was shut down."""
        return self._closed

    def add(self, handle: socket.socket) -> None:
        """Take a handle of a socket; `Closed` after a shutdown."""
        with self._lock:
            if not self._closed:
                self._handles.add(handle)
                return
        handle.close()
        message = "the connection to Consul was closed on purpose"
        raise Closed(message)

    def discard(self, handle: socket.socket) -> None:
        """Give the handle up: its connection is closed."""
        with self._lock:
            self._handles.discard(handle)
            handle.close()

    def shutdown(self) -> None:
        """End every connection at once, from any thread; whoever waits on one is woken."""
        with self._lock:
            self._closed = True
            for handle in self._handles:
                with contextlib.suppress(OSError):  # it may not have been connected yet, or no longer be
                    handle.shutdown(socket.SHUT_RDWR)


class _Reachable:
    """What both kinds of connection have of ours; `reach` sets where a pool's connections go."""

    sockets: Sockets
    path: str
    handle: socket.socket | None = None

    host: str
    port: int
    timeout: Any

    def _new_conn(self) -> socket.socket:
        seconds = self.timeout if isinstance(self.timeout, int | float) else None
        try:
            if self.path:
                return self._open(socket.AF_UNIX, self.path, seconds)
            error: OSError | None = None
            places = socket.getaddrinfo(self.host.strip("[]"), self.port, type=socket.SOCK_STREAM)
            for family, _, _, _, place in places:
                try:
                    return self._open(family, place, seconds)
                except OSError as failed:
                    error = failed
            raise error or OSError("the name has no address")
        except socket.gaierror as failed:
            raise NameResolutionError(self.host, self, failed) from failed  # type: ignore[arg-type]
        except TimeoutError as failed:
            message = f"no connection to {self.path or self.host} within {seconds} s"
            raise ConnectTimeoutError(self, message) from failed
        except OSError as failed:
            raise NewConnectionError(self, str(failed)) from failed  # type: ignore[arg-type]

    def _open(self, family: int, place: Any, seconds: float | None) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            handle = made.dup()
            self.sockets.add(handle)
            self.handle = handle
            if family != socket.AF_UNIX:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in KEEPALIVE:
                    made.setsockopt(socket.IPPROTO_TCP, option, value)
            made.settimeout(seconds)
            made.connect(place)
        except BaseException:
            made.close()
            self._release()
            raise
        return made

    def _release(self) -> None:
        if self.handle is not None:
            self.sockets.discard(self.handle)
            self.handle = None


class _Plain(_Reachable, HTTPConnection):
    def close(self) -> None:
        try:
            super().close()
        finally:
            self._release()


class _Tls(_Reachable, HTTPSConnection):
    def close(self) -> None:
        try:
            super().close()
        finally:
            self._release()


class Lending:
    """What both kinds of pool have of ours: connections for requests whose answers are read later."""

    def lend(self) -> HTTPConnection:
        """A connection that nobody else uses, connected or not; `give_back` or close it."""
        return self._get_conn()  # type: ignore[attr-defined, no-any-return]

    def give_back(self, connection: HTTPConnection) -> None:
        """The answer was read: the connection is free again."""
        self._put_conn(connection)  # type: ignore[attr-defined]


class PlainPool(Lending, urllib3.HTTPConnectionPool):
    """Of plain connections, over TCP or a Unix socket."""


class TlsPool(Lending, urllib3.HTTPSConnectionPool):
    """Of TLS connections."""


def make_pool(
    sockets: Sockets,
    *,
    host: str,
    port: int,
    path: str = "",
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    size: int = 4,
) -> PlainPool | TlsPool:
    """A pool of connections to `host` and `port`, or to the Unix socket `path`, that `sockets` can end.

    With `tls`, the certificate must be that of `server_name`, or of `host` where that is empty.
    """
    if tls is not None:
        secure = TlsPool(host, port, maxsize=size, ssl_context=tls, server_hostname=server_name or None)
        secure.ConnectionCls = type("Connection", (_Tls,), {"sockets": sockets, "path": path})
        return secure
    pool = PlainPool(host, port, maxsize=size)
    pool.ConnectionCls = type("Connection", (_Plain,), {"sockets": sockets, "path": path})
    return pool
