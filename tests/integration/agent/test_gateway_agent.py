"""Two whole agents with a gateway each: what is published through one is imported through the other."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

from hamlet_core import backoff
from hamlet_core.agent.control import Control
from hamlet_core.agent.metrics import StatusCollector
from hamlet_core.agent.preview import preview
from hamlet_core.api import AdapterOptions, AdapterType, Endpoint, HamletError, ImportKey, Ingress, hookimpl
from hamlet_core.api.testing.memory_gateway import MemoryGateway
from hamlet_core.config import load
from hamlet_core.identity import authority
from hamlet_core.plugins import loader
from hamlet_core.plugins.discovery import Found
from tests.support.meshes import Mesh, eventually, running

THROUGH = {"publish": [{"to": "all"}], "gateway": {"kind": "memory"}}
pytestmark = pytest.mark.usefixtures("gateways")
STATIC = {"endpoints": ["gw.west.example:443"], "sans": ["gw.west.example"]}


class Options(AdapterOptions):
    port: int = 0


class Plugin:
    """Provides the kind `memory`: each mesh has a gateway of its own, which outlives its agents."""

    def __init__(self, gateways):
        self._gateways = gateways

    @hookimpl
    def hamlet_adapters(self):
        def opened(options, context):
            return self._gateways[context.mesh].adapter_type().open(options, context)

        return [AdapterType(kind="memory", role="gateway", options=Options, api_version=1, open=opened)]


@pytest.fixture
def gateways(monkeypatch):
    """A gateway for each mesh; its kind is found beside what is installed."""
    found = {}
    for number, mesh in enumerate(("west", "east"), 1):
        found[mesh] = gateway = MemoryGateway()
        gateway.ingress = Ingress(
            endpoints=(Endpoint(address=f"203.0.113.{number}", port=443),), sans=(f"spiffe://{mesh}.example/ingress",)
        )
    point = SimpleNamespace(load=lambda: Plugin(found))
    memory = Found(name="memory", distribution="hamlet-memory", version="1", entry_point=point)
    discover = loader.discover
    monkeypatch.setattr(loader, "discover", lambda: itertools.chain(discover(), [memory]))
    monkeypatch.setattr(backoff, "delay", lambda *_, **__: 0.05)
    return found


@pytest.fixture
async def two(west, east, gateways):
    """Both agents, linked; west publishes `orders` to east."""
    west.write_service("orders")
    west.configure({"east": east.peer()}, **THROUGH)
    east.configure({"west": west.peer()}, **THROUGH)
    async with AsyncExitStack() as stack:
        western = await stack.enter_async_context(running(west))
        eastern = await stack.enter_async_context(running(east))
        await eventually(lambda: eastern.peer("west")["imports"]["standing"], what="orders is imported")
        await eastern.state("west", "imports", "live")
        yield western, eastern


def entry(mesh, peer, name):
    return YAML(typ="safe").load(mesh.imported(peer)[name])


KEY = ImportKey("west", "orders.west.example")


async def test_a_service_is_reached_through_both_gateways_and_withdrawn_in_their_order(two, west, east, gateways):
    route = gateways["west"].published["orders.west.example"]
    assert (route.peers, route.service, [each.port for each in route.endpoints]) == (("east",), "orders", [8080])
    service = gateways["east"].imported[KEY].service
    assert [(each.address, each.port) for each in service.endpoints] == [("203.0.113.1", 443)]
    assert service.sans == ("spiffe://west.example/ingress",)
    written = entry(east, "west", "orders.west.example")["route"]
    (places,) = written["endpoints"].values()
    assert [(each["address"], each["port"]) for each in places] == [("192.0.2.2", way_out(gateways))]
    assert written["originates_tls"] is True
    told = []  # after each call: whether the entry stands, and whether the gateway leads to it
    lead = gateways["east"].lead

    def noted(routes, keep):
        answers = lead(routes, keep)
        told.append(("orders.west.example" in east.imported_names("west"), KEY in gateways["east"].imported))
        return answers

    gateways["east"].lead = noted
    west.remove_service("orders")
    await eventually(lambda: not east.imported_names("west"), what="the entry goes")
    await eventually(lambda: KEY not in gateways["east"].imported, what="the way out goes")
    await eventually(lambda: not gateways["west"].published, what="the way in goes")
    assert (True, False) not in told, "kept until no entry stood"
    assert told[-1] == (False, False)


def way_out(gateways):
    """The port through which east reaches the one service that it imports."""
    (port,) = gateways["east"].ports.values()
    return port


async def test_an_agent_is_ready_once_its_ingress_is_known_and_its_services_are_led_to(west, east, gateways):
    west.write_service("orders")
    west.configure({"east": east.peer()}, **THROUGH)
    gateway = gateways["west"]
    ingress = gateway.ingress
    gateway.move(None)
    async with running(west, ready=False) as agent:
        await eventually(
            lambda: "no address is assigned yet" in agent.agent.not_ready, what="it says what it waits for"
        )
        assert agent.reporter.status()["gateway"]["state"] == "waiting"
        assert gateway.published == {}
        gateway.move(ingress)
        await eventually(lambda: not agent.agent.not_ready)
        assert set(gateway.published) == {"orders.west.example"}
    assert gateway.calls[0] == "gateway_trust"
    assert gateway.calls.count("gateway_close") == 1
    assert gateway.calls[-1] == "gateway_close"


async def test_status_metrics_and_check_tell_of_the_gateway(two, west, gateways):
    western, eastern = two
    status = western.reporter.status()["gateway"]
    assert {key: status[key] for key in ("kind", "state", "error", "endpoints", "sans", "published", "refused")} == {
        "kind": "memory",
        "state": "live",
        "error": "",
        "endpoints": ["203.0.113.1:443"],
        "sans": ["spiffe://west.example/ingress"],
        "published": 1,
        "refused": {},
    }
    assert eastern.reporter.status()["gateway"]["imported"] == 1
    assert _metrics(western)["hamlet_gateway_up"] == 1.0
    control = Control(western.agent, western.reporter, western.reload).methods()
    with gateways["west"].outage():
        west.write_service("cart")
        said = await eventually(
            lambda: (found := western.reporter.status()["gateway"])["state"] == "waiting" and found
        )
        assert "out of reach" in said["error"]
        assert _metrics(western)["hamlet_gateway_up"] == 0.0
        findings = (await control["check"]({}))["findings"]
        assert [each["message"] for each in findings if each["subject"] == "memory"] == ["out of reach"]
        (own,) = [each for each in findings if each["subject"] == "gateway (memory)"]
        assert own["severity"] == "error"
        assert "out of reach" in own["message"]

    def waiting():
        return {each["service"]: each["waits"] for each in western.reporter.services(None)["published"]}

    await eventually(lambda: waiting() == {"cart.west.example": "", "orders.west.example": ""})
    await eventually(lambda: western.reporter.status()["gateway"]["state"] == "live")
    reached = (await Control(eastern.agent, eastern.reporter, eastern.reload).methods()["services"]({}))["imported"]
    places = {each["service"]: each["reached_at"] for each in reached}
    (ours,) = {port for (key, _), port in gateways["east"].ports.items() if key == KEY}
    assert places["orders.west.example"] == [f"192.0.2.2:{ours}"]


def _metrics(running):
    collector = StatusCollector(running.reporter.status, lambda: 0.0)
    return {family.name: family.samples[0].value for family in collector.collect() if family.samples}


async def test_refusals_stand_in_status_with_their_reasons(two, west, east, gateways):
    western, eastern = two
    gateways["west"].refuse["cart.west.example"] = "no such port"
    west.write_service("cart")
    await eventually(lambda: western.reporter.status()["gateway"]["refused"] == {"cart.west.example": "no such port"})
    assert "no such port" in repr(western.reporter.status()["unpublished"])
    gateways["east"].refuse["users.west.example"] = "no port is free"
    west.write_service("users")
    await eventually(lambda: "no port is free" in repr(eastern.peer("west")["imports"]["rejected"]))
    rejected = await eventually(lambda: western.peer("east")["exports"]["rejected"], what="the owner hears of it")
    assert "no port is free" not in repr(rejected)
    control = Control(western.agent, western.reporter, western.reload).methods()
    said = [each["message"] for each in (await control["check"]({}))["findings"] if each["severity"] == "warning"]
    assert len(said) == 2
    assert any("services of ours that it refuses: 1: users.west.example" in each for each in said)
    assert any("not published: 1: cart" in each and "no such port" in each for each in said)
    rows = {row["service"]: row["rejected"] for row in (await control["services"]({}))["published"]}
    assert rows["users.west.example"] == rejected["users.west.example"]
    assert rows["orders.west.example"] == ""
    assert east.imported_names("west") == {"orders.west.example"}


async def test_another_ingress_reaches_the_other_mesh(two, gateways):
    gateways["west"].move(
        Ingress(endpoints=(Endpoint(address="203.0.113.9", port=8443),), sans=("spiffe://west.example/ingress",))
    )
    await eventually(
        lambda: gateways["east"].imported[KEY].service.endpoints[0].address == "203.0.113.9", what="it is led there"
    )


async def test_a_gateway_that_is_down_holds_up_writes_until_it_is_back(two, west, east, gateways):
    _, eastern = two
    with gateways["east"].outage():
        west.write_service("cart")
        west.remove_service("orders")
        await eventually(lambda: not east.imported_names("west"), what="the removal passes")
        await eventually(lambda: eastern.reporter.status()["registries"][0]["importing"]["state"] == "waiting")
    await eventually(lambda: east.imported_names("west") == {"cart.west.example"}, what="the write follows")
    await eventually(lambda: KEY not in gateways["east"].imported)


async def test_after_a_restart_the_same_entries_and_ways_stand(two, west, east, gateways):
    _, eastern = two
    before, ports = east.imported("west"), dict(gateways["east"].ports)
    await eastern.agent.stop()
    async with running(east) as again:
        await again.state("west", "imports", "live")
        assert east.imported("west") == before
        assert gateways["east"].ports == ports


async def test_a_new_certificate_and_another_peer_reach_the_gateway(two, west, east, gateways):
    western, _ = two
    gateway = gateways["west"]
    first = gateway.trust
    assert [each.peer for each in first.peers] == ["east"]
    authority.issue(west.folder / "pki")
    await eventually(
        lambda: gateway.trust.certificate != first.certificate, what="the new certificate is handed over"
    )
    north = Mesh(root=west.root, name="north")
    believed = []  # at each publication: whether north is believed, and whether something is for north
    publish = gateway.publish

    def noted(routes):
        believed.append(("north" in [each.peer for each in gateway.trust.peers], "north" in routes[0].peers))
        return publish(routes)

    gateway.publish = noted
    west.configure({"east": east.peer(), "north": north.peer(address=None)}, **THROUGH)
    await western.reload()
    await eventually(lambda: gateway.published["orders.west.example"].peers == ("east", "north"))
    assert believed[-1] == (True, True)
    assert (False, True) not in believed, "north is believed before anything is for it"
    west.configure({"east": east.peer()}, **THROUGH)
    await western.reload()
    await eventually(
        lambda: [each.peer for each in gateway.trust.peers] == ["east"], what="north is believed no more"
    )
    await eventually(lambda: gateway.published["orders.west.example"].peers == ("east",))


async def test_a_reload_cannot_change_a_plugins_gateway_and_a_plan_says_so(two, west, east):
    western, _ = two
    for change in ({"gateway": {"kind": "memory", "port": 7}}, {"gateway": STATIC}, {"egress": {"kind": "memory"}}):
        west.configure({"east": east.peer()}, **(THROUGH | change))
        plan = preview(western.agent, load.read(west.config_path).config)
        assert plan["restart"] == list(change)
        assert plan["publish"] == [], "what only a restart changes is left out"
        with pytest.raises(HamletError, match=f"{next(iter(change))} cannot change while the agent runs"):
            await western.reload()
    west.configure({"east": east.peer()}, publish=[], gateway={"kind": "memory"})
    plan = preview(western.agent, load.read(west.config_path).config)
    assert [(each["action"], each["service"]) for each in plan["publish"]] == [("withdraw", "orders.west.example")]


async def test_a_reload_takes_another_static_gateway(west, east):
    west.write_service("orders")
    west.configure({"east": east.peer(address=None)}, publish=[{"to": "all"}], gateway=STATIC)
    async with running(west) as agent:
        assert agent.reporter.status()["gateway"] is None
        west.configure({"east": east.peer(address=None)}, publish=[{"to": "all"}],
                       gateway={"endpoints": ["other.west.example:1"], "sans": ["gw.west.example"]})  # fmt: skip
        await agent.reload()
        (service,) = agent.agent.publication.views["east"].values()
        assert [each.address for each in service.endpoints] == ["other.west.example"]


async def test_a_gateway_that_leads_out_only_needs_no_ingress(west, east, gateways):
    west.write_service("orders")
    west.configure({"east": east.peer()})
    east.configure({"west": west.peer(allow_endpoints=["127.0.0.0/8"])}, egress={"kind": "memory"})
    async with running(west), running(east) as eastern:
        rejected = await eventually(lambda: eastern.peer("west")["imports"]["rejected"], what="it has no SANs")
        assert "it has no SANs to verify" in repr(rejected)
        status = eastern.reporter.status()
        assert status["gateway"] is None, "the ingress is told by the configuration, and no plugin drives it"
        assert (status["egress"]["kind"], status["egress"]["state"]) == ("memory", "live")
    assert set(gateways["east"].calls) == {"gateway_trust", "gateway_import", "gateway_close"}
