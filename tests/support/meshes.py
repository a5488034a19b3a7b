"""Meshes for tests: an authority, certificates, a folder registry, a configuration, and the agent in this process."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hamlet_core.agent.admin import call
from hamlet_core.agent.agent import Agent
from hamlet_core.agent.run import Process
from hamlet_core.agent.status import Reporter
from hamlet_core.config import load
from hamlet_core.identity import authority
from tests.support.ports import free_port

PATIENCE = 60.0


async def eventually(check: Callable[[], Any], *, what: str = "", within: float = PATIENCE) -> Any:
    """Wait until `check()` is true and return what it gave; fail, saying `what`, when it never is."""
    deadline = time.monotonic() + within
    while True:
        if found := check():
            return found
        if time.monotonic() > deadline:
            message = f"not within {within:g} s: {what or check}"
            raise AssertionError(message)
        await asyncio.sleep(0.01)


@dataclass(kw_only=True)
class Mesh:
    """One mesh on disk: `<root>/<name>` holds pki/, mesh/services, mesh/imported and hamlet.yaml."""

    root: Path
    name: str
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.services.mkdir(parents=True)
        authority.init(self.folder / "pki", self.trust_domain)
        authority.issue(self.folder / "pki")

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def trust_domain(self) -> str:
        return f"{self.name}.example"

    @property
    def services(self) -> Path:
        return self.folder / "mesh" / "services"

    @property
    def bundle(self) -> Path:
        return self.folder / "pki" / "bundle.pem"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def config_path(self) -> Path:
        return self.folder / "hamlet.yaml"

    def peer(self, **changes: Any) -> dict[str, Any]:
        """How others list this mesh among their peers."""
        settings = {
            "address": self.address,
            "trust_domain": self.trust_domain,
            "bundle": str(self.bundle),
            "allow_endpoints": ["127.0.0.0/8"],
            "quiet": "300ms",
        }
        return {key: value for key, value in (settings | changes).items() if value is not None}

    def configure(self, peers: dict[str, dict[str, Any]], **changes: Any) -> Path:
        """Write hamlet.yaml; returns its path."""
        document: dict[str, Any] = {
            "mesh": {"name": self.name, "domain": f"{self.name}.example", "trust_domain": self.trust_domain},
            "identity": {"certificate": "pki/agent.crt", "key": "pki/agent.key", "bundle": "pki/bundle.pem"},
            "listen": self.address,
            "admin": {"http": None},
            "registries": {self.name: {"kind": "file", "path": "mesh"}},
            "publish": [{"to": "all", "direct": True}],
            "peers": peers,
        } | changes
        fresh = self.config_path.with_suffix(".new")
        with fresh.open("w") as file:
            YAML(typ="safe").dump(document, file)
        fresh.replace(self.config_path)
        return self.config_path

    def write_service(self, name: str, *, tag: str = "v1", port: int = 8080) -> None:
        """Register or change a service."""
        fresh = self.services / f"{name}.tmp"
        fresh.write_text(
            f"name: {name}\nprotocol: HTTP\nport: {port}\ntags: [{tag}]\n"
            f"endpoints: [{{address: 127.0.0.1, port: {port}}}]\n"
        )
        fresh.replace(self.services / f"{name}.yaml")

    def remove_service(self, name: str) -> None:
        """Deregister a service."""
        (self.services / f"{name}.yaml").unlink()

    def imported_names(self, peer: str) -> set[str]:
        """Names of what stands imported from a peer; reads no file, so it may be asked often of many."""
        folder = self.folder / "mesh" / "imported" / peer
        return (
            {path.stem for path in folder.glob("*.yaml") if not path.name.startswith(".")}
            if folder.is_dir()
            else set()
        )

    def imported(self, peer: str) -> dict[str, str]:
        """File contents of what stands imported from a peer, by service name."""
        folder = self.folder / "mesh" / "imported" / peer
        if not folder.is_dir():
            return {}
        found = {}
        for path in folder.glob("*.yaml"):
            if not path.name.startswith("."):
                try:
                    found[path.stem] = path.read_text()
                except FileNotFoundError:
                    continue  # removed while we looked
        return found


@dataclass(kw_only=True)
class Running:
    """An agent that runs in this process."""

    mesh: Mesh
    agent: Agent
    reporter: Reporter

    def peer(self, name: str) -> dict[str, Any]:
        """What status says of a peer."""
        return next(peer for peer in self.reporter.status()["peers"] if peer["name"] == name)

    async def state(self, peer: str, way: str, *states: str) -> dict[str, Any]:
        """Wait until a peer's import or export is in one of `states`."""
        reached: dict[str, Any] = await eventually(
            lambda: (found := self.peer(peer)) and found[way]["state"] in states and found,
            what=f"{way} of {peer} {states}; it is {self.peer(peer)}",
        )
        return reached

    async def reload(self) -> None:
        """Take over hamlet.yaml anew."""
        await self.agent.reload(load.read(self.mesh.config_path))


@asynccontextmanager
async def running(mesh: Mesh, *, ready: bool = True) -> AsyncIterator[Running]:
    """Run the agent of a configured mesh; unless told otherwise it is `ready` when the block begins."""
    agent = Agent(load.read(mesh.config_path))
    await agent.start()
    try:
        if ready:
            await eventually(lambda: not agent.not_ready, what="every registry reports")
        yield Running(mesh=mesh, agent=agent, reporter=Reporter(agent))
    finally:
        await agent.stop()


@dataclass(frozen=True)
class Served:
    """A process of the agent in this one, which answers its operator on a socket as any other does."""

    process: Process
    socket: Path

    async def ask(self, method: str) -> dict[str, Any]:
        """Ask as a command does."""
        return await asyncio.to_thread(call, self.socket, method, {})

    async def status_once(self, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first status of which it holds: what a signal brings about is told in no other way."""
        async with asyncio.timeout(PATIENCE):
            while not holds(said := await self.ask("status")):  # noqa: ASYNC110 - it may be of another process
                await asyncio.sleep(0.01)
        return said


@asynccontextmanager
async def serving_as_a_command(mesh: Mesh, process: Process | None = None) -> AsyncIterator[Served]:
    """Run what `hamlet run` runs, or a `process` of that mesh, until the block ends, and end it with a signal."""
    process = process or Process(load.read(mesh.config_path), watch=False)
    running = asyncio.create_task(process.run())
    try:
        await eventually((path := mesh.folder / "hamlet.sock").exists)
        yield Served(process, path)
    finally:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(running, 60)


async def stays(check: Callable[[], Any], *, seconds: float, what: str = "") -> None:
    """Fail as soon as `check()` is false within `seconds`: for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert check(), f"it did not stay so: {what or check}"
        await asyncio.sleep(0.01)


Script = Callable[..., Awaitable[None]]
