"""`hamlet demo`: two meshes of two organisations on this machine, each a folder with an agent of its own."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from hamlet_core.agent.admin import AgentUnreachable, call
from hamlet_core.api import HamletError
from hamlet_core.cli.demo_calls import call_service, knock, serving
from hamlet_core.cli.output import console, styled
from hamlet_core.identity import authority
from hamlet_core.plugins import loader

PATIENCE = 30.0
"""Seconds after which a step has failed."""
EGRESS_PORTS = 10
"""So many services of others can be called in one mesh of the demo."""

CONFIG = """\
mesh: {{name: {name}, domain: {name}.example, trust_domain: {name}.example}}
identity: {{certificate: pki/agent.crt, key: pki/agent.key, bundle: pki/bundle.pem}}
listen: 127.0.0.1:{port}
admin: {{http: 127.0.0.1:{http}}}
log: {{format: text}}
registries:
  {name}: {{kind: file, path: mesh}}
{gateway}publish:
  - select: {{name: payroll}}
    name: payroll.corp.example   # outside of {name}.example, so the other side's policy refuses it
    to: [{other}]
{direct}  - to: [{other}]
{direct}peers:
  {other}:
    address: 127.0.0.1:{other_port}
    trust_domain: {other}.example
    bundle: {other}.pem          # all that the two operators ever exchange
    accept: ["*.{other}.example"]
    allow_endpoints: [127.0.0.0/8]   # refused unless allowed; the services of this demo live on loopback
  north:                         # known to both, but no rule publishes anything to it
    trust_domain: north.example
    bundle: north.pem
"""

GATEWAY = """\
gateway:
  kind: envoy                    # a real Envoy, started and configured by this agent
  directory: envoy
  threads: 1
  ingress: {{listen: "127.0.0.1:{ingress}", advertise: ["127.0.0.1:{ingress}"]}}
  egress: {{bind: 127.0.0.1, advertise: 127.0.0.1, ports: {first}-{last}}}
"""

DIRECT = "    direct: true                 # without a gateway the services' own addresses are published\n"

SERVICE = """\
name: {name}
protocol: HTTP
port: {port}
tags: [{tag}]
endpoints:
  - {{address: 127.0.0.1, port: {port}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """One side of the demo."""

    name: str
    folder: Path
    ingress: str = ""
    """Where its gateway lets others in (host:port), if there is one."""

    @property
    def config(self) -> Path:
        """Its hamlet.yaml."""
        return self.folder / "hamlet.yaml"

    def write_service(self, name: str, tag: str = "v1", port: int = 8080) -> None:
        """Register a service, or change it: write a file."""
        path = self.folder / "mesh" / "services" / f"{name}.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text(SERVICE.format(name=name, tag=tag, port=port))
        fresh.replace(path)

    def remove_service(self, name: str) -> None:
        """Deregister a service."""
        (self.folder / "mesh" / "services" / f"{name}.yaml").unlink()

    def imported(self, peer: str, service: str) -> str | None:
        """What stands in this mesh for a service of the other one."""
        try:
            return (self.folder / "mesh" / "imported" / peer / f"{service}.yaml").read_text()
        except FileNotFoundError:
            return None

    def reached_at(self, service: str) -> str:
        """Where workloads of this mesh reach an imported service, or an empty string."""
        imported = call(self.folder / "hamlet.sock", "services", {})["imported"]
        places = [place for row in imported if row["service"] == service for place in row["reached_at"]]
        return str(places[0]) if places else ""

    def peer_status(self, peer: str) -> dict[str, dict[str, object]]:
        """What its agent says of a peer."""
        found = next(p for p in call(self.folder / "hamlet.sock", "status", {})["peers"] if p["name"] == peer)
        return dict(found)


class Report:
    """Says what happens, to a person or to a program."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console: Console = console()

    def step(self, title: str, act: Callable[[], object], done: Callable[[], bool]) -> None:
        """Do something and wait until it has had its effect; raises `HamletError` when it has none."""
        started = time.monotonic()
        act()
        while not done():
            if time.monotonic() - started > PATIENCE:
                self._say(title, ok=False, seconds=PATIENCE)
                message = f"the demo stopped at: {title}"
                raise HamletError(message, mend="run it again with --keep and read the agent.log of both meshes")
            time.sleep(0.005)
        self._say(title, ok=True, seconds=time.monotonic() - started)

    def _say(self, title: str, *, ok: bool, seconds: float) -> None:
        if self._as_json:
            click.echo(json.dumps({"step": title, "ok": ok, "seconds": round(seconds, 4)}))
        else:
            mark = styled("✓", "green") if ok else styled("✗", "red")
            self._console.print(mark, f"{title} ", styled(f"{seconds * 1000:,.0f} ms", "dim"))

    def say(self, text: str) -> None:
        """A line for people only."""
        if not self._as_json:
            self._console.print(text)


@click.command()
@click.option("--keep", is_flag=True, help="Leave both agents running, and say what to try.")
@click.option("--no-gateway", is_flag=True, help="Exchange services only, with no gateways and no calls.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: step, ok, seconds.")
def demo(keep: bool, no_gateway: bool, as_json: bool) -> None:
    """Watch two meshes of two organisations exchange services and call them, on this machine.

    Each mesh is a folder with an authority, a configuration and an agent of its own; they trust each other's
    bundle and nothing else. Services appear in the other mesh, change and go; one is refused by policy. With
    hamlet-envoy[bundled] installed each mesh has a gateway too, and real calls cross from one to the other.
    """
    report = Report(as_json=as_json)
    folder = Path(tempfile.mkdtemp(prefix="hamlet-demo-"))
    gateways = not no_gateway and envoy_is_here()
    west, east = make_meshes(folder, gateways=gateways)
    report.say(f"Two meshes in {folder}: west and east. Each is a folder; its services are files.")
    if not gateways:
        report.say("They have no gateways, so nothing is called: `pip install 'hamlet-envoy[bundled]'` brings them.")
    report.say("")
    agents: list[subprocess.Popen[bytes]] = []
    try:
        what = "two agents and their Envoys start and link" if gateways else "two agents start and link"
        report.step(f"{what} over mutual TLS", lambda: agents.extend(start(west, east)), linked(west, east))
        show(report, west, east)
        if gateways:
            show_calls(report, west, east, folder / "north")
        if keep:
            explain(report, folder, agents)
            agents = []
            return
    finally:
        stop(agents)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    report.say("\nBoth agents are stopped and the folder is gone. `hamlet demo --keep` leaves them running.")


def envoy_is_here() -> bool:
    """Whether the gateway plugin of kind envoy is installed, and a program for it to run."""
    plugin = any(each.name == "envoy" and not each.problem for each in loader.installed())
    return plugin and bool(shutil.which("envoy") or importlib.util.find_spec("envoy"))


def make_meshes(folder: Path, *, gateways: bool) -> tuple[Mesh, Mesh]:
    """Two folders with everything an operator would have made by hand, and north's authority beside them."""
    with free_ports(6) as ports:
        west, east = (
            Mesh(name=name, folder=folder / name, ingress=f"127.0.0.1:{port}" if gateways else "")
            for name, port in (("west", ports[4]), ("east", ports[5]))
        )
        sides = ((west, east, ports[0], ports[1], ports[2]), (east, west, ports[1], ports[0], ports[3]))
        for mesh, other, port, other_port, http in sides:
            (mesh.folder / "mesh" / "services").mkdir(parents=True)
            make_identity(mesh.folder / "pki", mesh.name)
            first = free_range(EGRESS_PORTS)
            gateway = GATEWAY.format(
                ingress=mesh.ingress.rpartition(":")[2], first=first, last=first + EGRESS_PORTS - 1
            )
            mesh.config.write_text(
                CONFIG.format(
                    name=mesh.name,
                    other=other.name,
                    port=port,
                    other_port=other_port,
                    http=http,
                    gateway=gateway if gateways else "",
                    direct="" if gateways else DIRECT,
                )
            )
        make_identity(folder / "north", "north")
        for mesh, other in ((west, east), (east, west)):
            shutil.copy(mesh.folder / "pki" / "bundle.pem", other.folder / f"{mesh.name}.pem")
            shutil.copy(folder / "north" / "bundle.pem", mesh.folder / "north.pem")
    return west, east


def make_identity(folder: Path, name: str) -> None:
    """An authority, and a certificate that covers every name of the mesh, for its agent and its gateway."""
    authority.init(folder, f"{name}.example")
    authority.issue(folder, dns_names=[f"agent.{name}.example", f"*.{name}.example"])


def free_range(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on now."""
    for first in range(random.randrange(20_000, 28_000), 32_000, count):  # noqa: S311 - no secret
        with suppress(OSError), ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    message = f"no {count} ports in a row are free on this machine"
    raise HamletError(message, mend="stop some servers")


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports of this machine that nobody listens on, kept until the block ends."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        yield [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def start(*meshes: Mesh) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agents of the meshes as processes of their own."""
    for mesh in meshes:
        with (mesh.folder / "agent.log").open("wb") as log:
            command = [sys.executable, "-m", "hamlet_core", "-c", str(mesh.config), "run"]
            yield subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - our own


def stop(agents: list[subprocess.Popen[bytes]]) -> None:
    """End the agents, and wait until they have."""
    for agent in agents:
        agent.send_signal(signal.SIGTERM)
    for agent in agents:
        try:
            agent.wait(timeout=15)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def linked(west: Mesh, east: Mesh) -> Callable[[], bool]:
    """Whether both see each other's catalog."""

    def check() -> bool:
        with suppress(AgentUnreachable):
            sides = ((west, east.name), (east, west.name))
            return all(mesh.peer_status(peer)["imports"]["state"] == "live" for mesh, peer in sides)
        return False

    return check


def show(report: Report, west: Mesh, east: Mesh) -> None:
    """The story: published, changed, both ways, refused, withdrawn."""
    orders, stock = "orders.west.example", "stock.east.example"

    def refused() -> bool:
        return "payroll.corp.example" in west.peer_status("east")["exports"]["rejected"]  # type: ignore[operator]

    report.step("west publishes orders: it arrives in east", lambda: west.write_service("orders"),
                lambda: east.imported("west", orders) is not None)  # fmt: skip
    report.step("west changes orders: the change arrives", lambda: west.write_service("orders", tag="v2"),
                lambda: "v2" in (east.imported("west", orders) or ""))  # fmt: skip
    report.step("east publishes stock: it arrives in west", lambda: east.write_service("stock"),
                lambda: west.imported("east", stock) is not None)  # fmt: skip
    report.step("west publishes payroll under a name that east does not accept: refused, and west is told why",
                lambda: west.write_service("payroll"), refused)  # fmt: skip
    rejected = west.peer_status("east")["exports"]["rejected"]
    assert isinstance(rejected, dict)
    report.say(f"    east says: {rejected['payroll.corp.example']}")
    report.step("west withdraws orders: it is gone from east", lambda: west.remove_service("orders"),
                lambda: east.imported("west", orders) is None)  # fmt: skip
    report.step("and east still has no payroll, west still has stock", lambda: None,
                lambda: east.imported("west", "payroll.corp.example") is None
                and west.imported("east", stock) is not None)  # fmt: skip


def show_calls(report: Report, west: Mesh, east: Mesh, north: Path) -> None:
    """What federation is for: a call that crosses, and who may not make it."""
    orders, certificate = "orders.west.example", east.folder / "pki" / "agent.crt"
    bundle = west.folder / "pki" / "bundle.pem"

    def enter(by: Path | None) -> str:
        return knock(west.ingress, orders, bundle=bundle, certificate=by)

    with serving("orders of west") as port:
        report.step("west publishes orders again; a workload of east calls it by name, through both gateways",
                    lambda: west.write_service("orders", port=port),
                    lambda: "orders of west" in call_service(east.reached_at(orders), orders))  # fmt: skip
        place = east.reached_at(orders)
        report.say(f"    {orders} is reached at {place} in east, and west's ingress is {west.ingress}")
        report.step("at west's ingress east's own certificate is let in", lambda: None,
                    lambda: "orders of west" in enter(certificate))  # fmt: skip
        report.step("north, which west knows but does not publish to, is refused with its valid certificate",
                    lambda: None, lambda: not enter(north / "agent.crt"))  # fmt: skip
        report.step("somebody without a certificate is refused", lambda: None, lambda: not enter(None))
        report.step("west withdraws orders: the call fails from then on", lambda: west.remove_service("orders"),
                    lambda: not call_service(place, orders) and not enter(certificate))  # fmt: skip


def explain(report: Report, folder: Path, agents: list[subprocess.Popen[bytes]]) -> None:
    """What to try with the agents that stay."""
    pids = " ".join(str(agent.pid) for agent in agents)
    report.say(
        f"""
Both agents go on. Try:
  cd {folder}
  hamlet -c east/hamlet.yaml status
  hamlet -c east/hamlet.yaml services
  sed s/stock/more/ east/mesh/services/stock.yaml > east/mesh/services/more.yaml
  ls west/mesh/imported/east
  hamlet -c west/hamlet.yaml check

Stop them and clean up:
  kill {pids}; rm -r {folder}"""
    )
