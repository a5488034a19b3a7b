"""The HTTP client that python-consul2's API classes call through, in place of its own: deadlines, retries, errors.

It reads nothing from the environment. Made on urllib3, which costs half of what requests does per call and
takes a TLS context and connections of ours without a detour. Decodes nothing and knows no endpoint by name.
"""

from __future__ import annotations

import random
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import urllib3
from consul import base
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import wait_for_read

from hamlet_consul.address import parse_address
from hamlet_consul.connection import Closed, PlainPool, Sockets, TlsPool, make_pool
from hamlet_consul.errors import ConsulDenied, ConsulRefused, UnknownToken, right_for
from hamlet_consul.silence import is_tls, silence
from hamlet_core.api import RegistryUnavailable

DEFAULT_WAIT = 300.0
"""Seconds that Consul holds a blocking query for when it names no wait (Consul, "Blocking queries")."""
SCOPED = ("catalog", "health", "kv", "config", "txn", "session", "query")
"""Endpoints under /v1 that take a datacenter, a namespace and a partition."""
CONSISTENT = ("catalog", "health", "kv", "config")
"""Endpoints under /v1 whose reads take a consistency mode."""
BUSY = frozenset({429, 500, 502, 503, 504})
"""Answers to a read that another try may better: an election, a proxy between, a rate limit."""

UNKNOWN = "ACL not found"
"""What Consul says of a token that it does not have, whatever it was given for."""

FAILURES = (Closed, HTTPError, HTTPException, OSError)
"""What a connection raises that was not made, broke, or was ended on purpose."""

Params = Sequence[tuple[str, Any]] | Mapping[str, Any] | None
Callback = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where Consul is and how to talk to it. Times are in seconds.

    `address` is `http://host:port`, `https://host:port` or `unix:///path`. `server_name` is what the agent's
    certificate must name where that is not the host. `timeout` bounds the wait for an answer; a blocking query is
    given its own wait, the sixteenth that Consul adds as jitter, and this.
    """

    address: str = "http://127.0.0.1:8500"
    token: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""
    datacenter: str = ""
    namespace: str = ""
    partition: str = ""
    consistency: str = "default"
    connect_timeout: float = 3.0
    timeout: float = 10.0
    retries: int = 2


class Requests:
    """Counts the requests made, by endpoint (`health/state`, `txn`): what tests and benchmarks assert."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, path: str) -> None:
        """Take one more request to `path` into account."""
        with self._lock:
            self._counts["/".join(path.removeprefix("/v1/").split("/")[:2])] += 1

    def snapshot(self) -> Counter[str]:
        """How many there were of each so far."""
        with self._lock:
            return Counter(self._counts)


class _Retries(urllib3.Retry):
    """urllib3's rule, but a deadline that passed is not waited for once more, nor a pool that was closed used."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        if error is not None and (isinstance(error, ReadTimeoutError) or _pool.ConnectionCls.sockets.closed):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def read_deadline(params: Sequence[tuple[str, Any]], timeout: float) -> float:
    """Seconds to wait for the answer to a call with these parameters.

    A blocking query is answered within its wait and a sixteenth of it (Consul, "Blocking queries"); `timeout`
    is what any answer may take on top.
    """
    named = dict(params)
    if "index" not in named:
        return timeout
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", str(named.get("wait", "")))
    wait = float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[2]] if found else DEFAULT_WAIT
    return wait + wait / 16 + timeout


def wait_text(wait: timedelta) -> str:
    """Write a duration as Consul reads it."""
    return f"{round(wait.total_seconds() * 1000)}ms"


class Transport(base.HTTPClient):  # type: ignore[misc]  # python-consul2 is not typed
    """One pool of connections to one Consul agent. Safe from several threads; `close` ends all calls at once.

    Every call raises `RegistryUnavailable` when Consul cannot be reached, does not answer in time or answers
    that it cannot (5xx); `ConsulDenied` for 403; `ConsulRefused` for 400. All other answers go to the callback.
    A token that Consul does not know is told to `revoked` besides.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        requests: Requests | None = None,
        connections: int = 4,
        revoked: Callable[[UnknownToken], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self._revoked = revoked
        self.said = {"User-Agent": "hamlet-consul"}
        """The headers of every call."""
        if settings.token:
            self.said["X-Consul-Token"] = settings.token
        self._connections = connections
        self._lock = threading.Lock()
        self._sockets = Sockets()
        self._pool: PlainPool | TlsPool | None = None
        self.requests = requests or Requests()
        self._where = parse_address(settings.address)
        scheme, host, port, _ = self._where
        super().__init__(host=host, port=port, scheme=scheme, timeout=settings.timeout)

    def get(self, callback: Callback, path: str, params: Params = None, headers: Any = None) -> Any:
        """Read `path`: the one call that is tried again."""
        return _decoded(callback, self._call("GET", path, params, headers, None))

    def put(self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None) -> Any:
        """Write `data` to `path`."""
        return _decoded(callback, self._call("PUT", path, params, headers, data))

    def delete(
        self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None
    ) -> Any:
        """Delete what is at `path`."""
        return _decoded(callback, self._call("DELETE", path, params, headers, data))

    def post(self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None) -> Any:
        """Post `data` to `path`."""
        return _decoded(callback, self._call("POST", path, params, headers, data))

    def begin_put(self, path: str, data: bytes) -> Pending:
        """Send `data` to `path` and do not wait for the answer: as `put` when its result is asked for."""
        return self._begin("PUT", path, data)

    def begin_get(self, path: str) -> Pending:
        """Ask for `path` and do not wait for the answer: unlike with `get`, nothing is tried again."""
        return self._begin("GET", path, None)

    def _begin(self, method: str, path: str, data: bytes | None) -> Pending:
        self.requests.count(path)
        target = self._target(method, path, ())[0]
        try:
            return Pending(self, self._open_pool(), path, (method, target), data)
        except Closed as error:
            raise RegistryUnavailable(str(error)) from error

    def close(self) -> None:
        """End every call, also the blocked ones of other threads, and let no new one be made."""
        self._sockets.shutdown()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _call(self, method: str, path: str, params: Params, headers: Any, data: Any) -> Any:
        settings = self.settings
        target, named = self._target(method, path, params)
        self.requests.count(path)
        try:
            response = self._open_pool().urlopen(
                method,
                target,
                body=data or None,
                headers={**self.said, **(headers or {})},
                timeout=urllib3.Timeout(
                    connect=settings.connect_timeout, read=read_deadline(named, settings.timeout)
                ),
                retries=self._retries(method, blocking="index" in dict(named)),
                redirect=False,
            )
        except Closed as error:
            raise RegistryUnavailable(str(error)) from error
        except (HTTPError, OSError) as error:
            raise self.unreachable(path, error) from error
        return self.answer(path, response)

    def _target(self, method: str, path: str, params: Params) -> tuple[str, list[tuple[str, Any]]]:
        named = self._with_scope(method, path, params)
        return quote(path, safe="/:") + (f"?{urlencode(named)}" if named else ""), named

    def _retries(self, method: str, *, blocking: bool) -> _Retries:
        # A call that never was sent may be sent again, whatever it is; one that was, only if it is a read. A
        # query that waited is not: what answers by now may be another Consul, to which its index means nothing.
        again = 0 if blocking else self.settings.retries
        return _Retries(
            total=None,
            connect=again,
            read=again if method == "GET" else False,
            status=again if method == "GET" else 0,
            redirect=0,
            other=0,
            allowed_methods=["GET"],
            status_forcelist=BUSY if method == "GET" else None,
            backoff_factor=0.05,
            backoff_jitter=0.1,
            backoff_max=0.5,
            raise_on_status=False,
            respect_retry_after_header=False,
        )

    def _with_scope(self, method: str, path: str, params: Params) -> list[tuple[str, Any]]:
        named = list(params.items()) if isinstance(params, Mapping) else list(params or ())
        keys = {key for key, _ in named}
        endpoint = path.removeprefix("/v1/").partition("/")[0]
        settings = self.settings
        if endpoint in SCOPED:
            scope = {"dc": settings.datacenter, "ns": settings.namespace, "partition": settings.partition}
            named += [(key, value) for key, value in scope.items() if value and key not in keys]
        if method == "GET" and endpoint in CONSISTENT and not keys & {"stale", "consistent"}:
            named += [(mode, "") for mode in (settings.consistency,) if mode != "default"]
        return named

    def _open_pool(self) -> PlainPool | TlsPool:
        with self._lock:
            if self._pool is None:
                if self._sockets.closed:
                    message = "the connection to Consul was closed on purpose"
                    raise Closed(message)
                scheme, host, port, path = self._where
                self._pool = make_pool(
                    self._sockets,
                    host=host,
                    port=port,
                    path=path,
                    tls=self._tls() if scheme == "https" else None,
                    server_name=self.settings.server_name,
                    size=self._connections,
                )
            return self._pool

    def _tls(self) -> ssl.SSLContext:
        settings = self.settings
        try:
            context = ssl.create_default_context(cafile=settings.ca)
            if settings.certificate is not None:
                context.load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in (settings.ca, settings.certificate, settings.key) if file)
            message = f"the TLS files of Consul ({files}) cannot be used: {error}"
            raise RegistryUnavailable(message, mend="look at `ca`, `certificate` and `key`") from error
        return context

    def unreachable(self, path: str, error: Exception) -> RegistryUnavailable:
        """What to raise for a call that had no answer, because of `error`."""
        if self._sockets.closed:
            return RegistryUnavailable("the connection to Consul was closed on purpose")
        if is_tls(error):
            # Files may have been renewed since: the next call reads them again.
            with self._lock:
                self._pool = None
        return silence(self.settings.address, path, error)

    def answer(self, path: str, response: Any) -> Any:
        """An answer as callbacks take it; raises for those that no callback is to see."""
        text = response.data.decode("utf-8", errors="replace")
        if response.status >= 400:
            self._refuse(path, response, " ".join(text.split())[:300])
        if response.headers.get("X-Consul-KnownLeader") == "false" and path.startswith(("/v1/catalog", "/v1/health")):
            # Only a stale read gets this far without a leader; what it says may be from before a restore.
            message = f"Consul at {self.settings.address} knows no leader ({path})"
            raise RegistryUnavailable(message)
        return base.Response(response.status, response.headers, text, response.data)

    def _refuse(self, path: str, response: Any, said: str) -> None:
        if response.status >= 500 or response.status == 429:
            message = f"Consul at {self.settings.address} answered {response.status} to {path}: {said}"
            raise RegistryUnavailable(message)
        if response.status == 403 and UNKNOWN in said:
            message = f"Consul does not know this token (deleted, mistyped, or of another datacenter): {said}"
            unknown = UnknownToken(message, mend="put a valid one in `token`, and restart the agent")
            self._revoked(unknown)
            raise unknown
        if response.status == 403:
            message = f"Consul refuses the token for {path}: {said}"
            raise ConsulDenied(message, mend=f"give the token the right {right_for(path)}")
        if response.status in (400, 405, 413):
            message = f"Consul refuses the call {path} ({response.status}): {said}"
            raise ConsulRefused(message)


class Pending:
    """A call that was sent on a connection of its own, and whose answer was not read yet. Never repeated."""

    def __init__(
        self,
        transport: Transport,
        pool: PlainPool | TlsPool,
        path: str,
        target: tuple[str, str],
        data: bytes | None,
    ) -> None:
        self._transport, self._pool, self._path = transport, pool, path
        self._connection = pool.lend()
        try:
            self._connection.timeout = transport.settings.connect_timeout
            if self._connection.sock is None:
                self._connection.connect()
            self._connection.timeout = transport.settings.timeout
            self._connection.request(*target, body=data, headers=transport.said)
        except FAILURES as error:
            raise self._failed(error) from error

    def result(self, callback: Callback) -> Any:
        """Wait for the answer."""
        try:
            response = self._connection.getresponse()
        except FAILURES as error:
            raise self._failed(error) from error
        self._pool.give_back(self._connection)
        return _decoded(callback, self._transport.answer(self._path, response))

    @property
    def answered(self) -> bool:
        """Whether the answer has begun to come, or the connection has ended."""
        return wait_for_read(self._connection.sock, timeout=0)

    def abandon(self) -> None:
        """Never read the answer."""
        self._connection.close()

    def _failed(self, error: Exception) -> RegistryUnavailable:
        self._connection.close()
        return self._transport.unreachable(self._path, error)


def _decoded(callback: Callback, response: Any) -> Any:
    try:
        return callback(response)
    except ValueError as error:
        message = f"what answered is not Consul, or not all of it: {response.body[:100]!r}"
        raise RegistryUnavailable(message, mend="look at `address`") from error


def jittered(seconds: float) -> float:
    """The same time, up to a quarter longer: many clients shall not come back at once."""
    return seconds * (1 + random.random() / 4)  # noqa: S311 - spreading load, no secret
