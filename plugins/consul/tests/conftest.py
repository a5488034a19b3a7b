"""Fixtures of the adapter's tests: ways to the real Consul. Nothing of Consul is faked."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest
from hamlet_consul.client import Client
from hamlet_consul.options import ConsulOptions
from hamlet_consul.registry import ConsulRegistry
from hamlet_consul.transport import Settings, Transport

from hamlet_core.api import PROJECT, AdapterContext, RegistrySpec
from hamlet_core.api.testing import Watching
from tests.backends.consul import Consul

MakeClient = Callable[..., Client]
ENDS_WITHIN = 60.0


def settings_of(consul: Consul, **changes: Any) -> Settings:
    """Everything that is needed to reach this Consul as its bootstrap token."""
    given: dict[str, Any] = {"address": consul.address, "token": consul.token}
    if consul.pki:
        given |= {"ca": consul.pki.ca, "certificate": consul.pki.client[0], "key": consul.pki.client[1]}
    return Settings(**(given | changes))


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Make a client of a Consul, closed after the test: `make_client(consul, timeout=1.0)`."""
    made: list[Client] = []

    def make(consul: Consul, **changes: Any) -> Client:
        made.append(Client(Transport(settings_of(consul, **changes))))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def hurried() -> Callable[..., contextlib.AbstractContextManager[None]]:
    """Have the calls of a client wait for less while Consul hangs: `with hurried(client)`.

    What answers is given the time that a busy machine may take, before and after.
    """

    @contextlib.contextmanager
    def waiting(client: Client, seconds: float = 0.3) -> Iterator[None]:
        patient = client.http.settings
        client.http.settings = dataclasses.replace(patient, timeout=seconds)
        try:
            yield
        finally:
            client.http.settings = patient

    return waiting


class CuttingProxy:
    """A proxy in front of a Consul that forwards requests and cuts the connection instead of the first answers.

    `cuts` says how many, of requests whose method is one of `methods`.
    """

    def __init__(self, consul: Consul, cuts: int, methods: tuple[bytes, ...] = (b"GET", b"PUT")) -> None:
        self._target = ("127.0.0.1", consul.port)
        self.cuts, self._methods = cuts, methods
        self.requests = 0
        self._near: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._near = near
            # Either side may hang up while it is answered.
            with contextlib.suppress(OSError), near, socket.create_connection(self._target) as far:
                while self._pump(near, far):
                    pass

    def _pump(self, near: socket.socket, far: socket.socket) -> bool:
        """Forward what has come on either side; False when the connections are to be closed."""
        ready, _, _ = select.select([near, far], [], [])
        if far in ready:
            answer = far.recv(65536)
            near.sendall(answer)
            return bool(answer)
        request = self._request(near)
        self.requests += bool(request)
        far.sendall(request)
        if request and self.cuts > 0 and request.startswith(self._methods):
            self.cuts -= 1
            far.recv(65536)
            return False
        return bool(request)

    @staticmethod
    def _request(near: socket.socket) -> bytes:
        """One whole request, or nothing when there is no further one."""
        request = b""
        try:
            while b"\r\n\r\n" not in request:
                part = near.recv(65536)
                if not part:
                    return b""
                request += part
            length = re.search(rb"(?i)content-length: (\d+)", request)
            whole = request.index(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
            while len(request) < whole:
                request += near.recv(65536)
        except OSError:
            return b""
        return request

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(OSError):  # it may have ended by itself
            if self._near is not None:
                self._near.shutdown(socket.SHUT_RDWR)
        self._thread.join(ENDS_WITHIN)


@pytest.fixture
def cut_answers() -> Iterator[Callable[..., CuttingProxy]]:
    """Put a proxy before a Consul that cuts the first `cuts` answers."""
    made: list[CuttingProxy] = []

    def make(consul: Consul, **how: Any) -> CuttingProxy:
        made.append(CuttingProxy(consul, **how))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


class Started:
    """A registry as an agent of mesh `west` opens it on a Consul, and what registers services there."""

    def __init__(self, consul: Consul, **options: Any) -> None:
        given: dict[str, Any] = {"address": consul.address, "token": consul.token}
        if consul.pki:
            given |= {"ca": consul.pki.ca, "certificate": consul.pki.client[0], "key": consul.pki.client[1]}
        context = AdapterContext(
            name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
        )
        self.consul = consul
        self.registry = ConsulRegistry(ConsulOptions(**(given | options)), context)
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(RegistrySpec)
        manager.register(self.registry)
        self.hooks = manager.hook
        self._watching: list[Watching] = []

    def watch(self) -> Watching:
        """Begin a watch and wait for its first batch."""
        watching = Watching(self.hooks)
        self._watching.append(watching)
        watching.until(lambda _: True, 30)
        return watching

    def close(self) -> None:
        """Tidy up."""
        for watching in self._watching:
            if watching.error is None:
                watching.end(ENDS_WITHIN)
        self.registry.registry_close()


@pytest.fixture
def start_registry() -> Iterator[Callable[..., Started]]:
    """Open a registry on a Consul: `start_registry(consul, wait="2s")`."""
    started: list[Started] = []

    def start(consul: Consul, **options: Any) -> Started:
        started.append(Started(consul, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
