"""Between the tables and the gateway: what it is told when, and what its answers, silence and return change."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hamlet_core.agent.gateway import Gateway, trust_of
from hamlet_core.agent.importer import Importer, Lane
from hamlet_core.agent.supervise import Supervisor
from hamlet_core.api import (
    AdapterError,
    Endpoint,
    GatewayUnavailable,
    ImportKey,
    Ingress,
    LocalService,
    PeerTrust,
    RegistryUnavailable,
    Remove,
    Route,
    ServicePort,
    Snapshot,
    StandingImport,
    Trust,
    Upsert,
)
from hamlet_core.api.testing.memory_gateway import MemoryGateway
from hamlet_core.config.driven import Egress
from hamlet_core.config.model import PublishRule
from hamlet_core.identity.spiffe import IdentityError
from hamlet_core.imports.reconciler import Reconciler
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.publish.catalog import Catalog, Payload
from hamlet_core.publish.policy import Policy
from hamlet_core.publish.publication import Publication
from hamlet_core.rpc.consumer import Received
from hamlet_core.wire.messages import Offer, Withdraw
from tests.support import sessions
from tests.support.sessions import until

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OK, INVALID, UNAVAILABLE = 0, 3, 14


def service(name):
    return replace(sessions.service(name), sans=("spiffe://east.example/ingress",))


def trust(*peers):
    return Trust(
        certificate="ours",
        key="key",
        peers=tuple(PeerTrust(peer=peer, trust_domain=f"{peer}.example", bundle=f"of {peer}") for peer in peers),
    )


def local(name):
    return LocalService(
        name=name,
        ports=(ServicePort(name="http", port=80),),
        endpoints=(Endpoint(address="10.0.0.1", port=8080),),
    )


class Bench:
    """A gateway in memory, what drives it, and the tables on both sides; `said` is in which order things happened."""

    def __init__(self, config, *, into=True, egress=None):
        self.memory = MemoryGateway()
        self.outside = MemoryGateway() if egress else None
        self.given = trust("east")
        self.said = []
        self.ports = []
        self.catalog = Catalog(lambda each: Payload(v1alpha1=repr(each).encode(), v1alpha2=b""))
        self.publication = Publication(self.policy(None), self.catalog, NOW)
        port = self.port("gateway", self.memory) if into else None
        out = self.port("egress", self.outside or self.memory) if egress or not into else port
        self.gateway = Gateway(
            port,
            out,
            self.publication,
            self.trust,
            on_ingress=self.on_ingress,
            on_published=lambda: self.said.append("published"),
            on_routed=lambda: self.said.append("routed"),
        )
        self.config = config.model_copy(update={"egress": Egress(kind="memory")})
        self.supervisor = Supervisor()

    def port(self, key, memory):
        adapter_type = memory.adapter_type()
        self.ports.append(GatewayPort(key, adapter_type, adapter_type.open(None, None), stop_timeout=1.0))
        return self.ports[-1]

    @staticmethod
    def policy(ingress):
        rules = (PublishRule.model_validate({"to": "all"}),)
        return Policy(mesh="west", domain="west.example", rules=rules, peers=("east",), registries=("main",),
                      ingress=ingress, gated=True)  # fmt: skip

    def trust(self):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    def on_ingress(self, ingress):
        self.said.append("ingress")
        self.publication.set_policy(self.policy(ingress), NOW)

    def start(self):
        for port in self.gateway.ports:
            self.supervisor.start(port.title, lambda port=port: self.gateway.run(port))
        self.supervisor.start("ingress", self.gateway.follow_ingress)

    def report(self, *names):
        self.publication.observe("main", Snapshot(tuple(map(local, names))), NOW)
        self.gateway.wake()

    def shown(self):
        entries = self.catalog.log(self.publication.audience("east")).entries
        return sorted(name for name, each in entries.items() if each.payload is not None)

    def reconcilers(self, *names):
        found = tuple(Reconciler(name, self.config) for name in names)
        self.gateway.reconcilers = found
        return found

    async def close(self):
        await self.supervisor.stop_all()
        for port in self.ports:
            await port.close()


@pytest.fixture
async def make(config, at_once):
    made = []

    def make(**others):
        made.append(Bench(config, **others))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def it(make):
    return make()


def ready(reconciler, *standing):
    """Tell a reconciler what stands and that there are no local services."""
    reconciler.adopt(
        [StandingImport(key=ImportKey("east", name), local_name=name, digest="d") for name in standing], NOW
    )
    reconciler.set_local_names(frozenset())
    return reconciler


def offer(reconciler, *names):
    for name in names:
        assert reconciler.offer("east", service(name), 100, NOW) is None


# --- into this mesh ----------------------------------------------------------------------------------


async def test_a_service_is_published_once_the_ingress_is_known_and_its_route_stands(it):
    it.memory.move(None)
    it.start()
    it.report("a")
    await until(lambda: it.gateway.ingress_error)
    assert "no address is assigned yet" in it.gateway.ingress_error
    assert (it.publication.ready, it.memory.published, it.shown()) == (False, {}, [])
    it.memory.move(Ingress(endpoints=(Endpoint(address="192.0.2.1", port=443),), sans=("gw.west.example",)))
    await until(lambda: it.publication.ready)
    assert (set(it.memory.published), it.shown()) == ({"a.west.example"}, ["a.west.example"])
    assert it.memory.published["a.west.example"].peers == ("east",)
    assert it.said[:2] == ["ingress", "published"]
    assert (it.gateway.heard, it.gateway.ingress_error, it.gateway.published) == (True, "", 1)


async def test_trust_comes_first_and_nothing_is_led_before_every_registry_has_reported(it):
    it.start()
    await until(lambda: it.memory.trust is not None and it.gateway.heard)
    assert it.memory.calls == ["gateway_trust"]
    it.report("a")
    await until(it.shown)
    assert it.memory.calls == ["gateway_trust", "gateway_publish"]


async def test_a_mesh_without_services_is_ready_too(it):
    it.start()
    it.report()
    await until(lambda: it.publication.ready)
    assert it.memory.calls == ["gateway_trust", "gateway_publish"]


async def test_the_gateway_leads_before_the_catalog_offers_and_until_it_does_no_more(it, monkeypatch):
    order = []
    put, remove, called = it.catalog.put, it.catalog.remove, it.memory.called
    monkeypatch.setattr(it.catalog, "put", lambda a, s: (order.append(f"+{s.name}"), put(a, s)))
    monkeypatch.setattr(it.catalog, "remove", lambda a, n: (order.append(f"-{n}"), remove(a, n)))
    monkeypatch.setattr(it.memory, "called", lambda hook: (order.append(hook), called(hook)))
    it.start()
    it.report()
    await until(lambda: it.publication.ready)
    order.clear()
    it.publication.observe("main", (Upsert(local("a")),), NOW)
    it.gateway.wake()
    await until(it.shown)
    it.publication.observe("main", (Remove("a"),), NOW)
    it.gateway.wake()
    await until(lambda: not it.memory.published)
    significant = [each for i, each in enumerate(order) if each not in order[:i] or each == "gateway_publish"]
    # A service that comes has no entry to take out: the catalog is asked to all the same.
    assert [each for each in significant if each != "-a.west.example"][:2] == ["gateway_publish", "+a.west.example"]
    assert order[-2:] == ["-a.west.example", "gateway_publish"]


async def test_another_ingress_is_published_anew(it):
    it.start()
    it.report("a")
    await until(it.shown)
    it.memory.move(Ingress(endpoints=(Endpoint(address="198.51.100.1", port=443),), sans=("gw.west.example",)))
    entries = it.catalog.log(it.publication.audience("east")).entries
    await until(lambda: b"198.51.100.1" in entries["a.west.example"].payload.v1alpha1)
    assert it.memory.calls.count("gateway_publish") == 1, "the routes are the same"


async def test_while_the_ingress_is_not_known_what_was_published_stays(it):
    it.start()
    it.report("a")
    await until(it.shown)
    with it.memory.outage():
        await until(lambda: it.gateway.ingress_error)
        assert it.shown() == ["a.west.example"]
        assert it.gateway.ingress is not None
    await until(lambda: not it.gateway.ingress_error)
    assert it.said.count("ingress") == 1


async def test_a_gateway_without_an_ingress_is_heard_and_publishes_nothing(it, monkeypatch):
    def nothing(stop):
        yield None
        stop.wait(30)

    monkeypatch.setattr(it.memory, "ingresses", nothing)
    it.start()
    it.report("a")
    await until(lambda: it.publication.ready)
    assert (it.shown(), it.memory.published) == ([], {})
    assert "the gateway has no ingress" in it.publication.problems()[0].reason


async def test_an_outage_of_the_gateway_is_told_keeps_what_there_is_and_is_made_up_for(it):
    it.start()
    it.report("a")
    await until(it.shown)
    with it.memory.outage():
        it.publication.observe("main", (Upsert(local("b")), Remove("a")), NOW)
        it.gateway.wake()
        await until(lambda: it.gateway.error)
        assert "out of reach" in it.gateway.error
        assert it.shown() == [], "a withdrawal waits for nobody"
        assert set(it.memory.published) == {"a.west.example"}
    await until(lambda: set(it.memory.published) == {"b.west.example"})
    await until(lambda: not it.gateway.error)
    assert it.shown() == ["b.west.example"]


async def test_what_is_refused_is_told_and_the_rest_published(it):
    it.memory.refuse["a.west.example"] = "no"
    it.start()
    it.report("a", "b")
    await until(it.shown)
    assert it.shown() == ["b.west.example"]
    assert (it.gateway.published, it.gateway.refused) == (1, {"a.west.example": "no"})
    assert "the gateway refuses it: no" in it.publication.problems()[0].reason
    it.memory.refuse.clear()
    it.report("a", "b", "c")
    await until(lambda: len(it.shown()) == 3)
    assert it.gateway.refused == {}


async def test_what_changes_while_the_gateway_is_asked_is_told_to_it_next(it, monkeypatch):
    called = it.memory.called
    loop = asyncio.get_running_loop()

    def also(hook):
        called(hook)
        if hook == "gateway_publish" and it.memory.calls.count(hook) == 1:
            loop.call_soon_threadsafe(it.publication.observe, "main", (Upsert(local("b")),), NOW)

    monkeypatch.setattr(it.memory, "called", also)
    it.start()
    it.report("a")
    await until(lambda: it.shown() == ["a.west.example", "b.west.example"])


async def test_while_the_gateway_is_down_changes_do_not_make_it_be_asked_more_often(it, monkeypatch):
    monkeypatch.setattr("hamlet_core.backoff.delay", lambda *_, **__: 30.0)
    it.start()
    it.report()
    await until(lambda: it.publication.ready)
    with it.memory.outage():
        it.report("a")
        await until(lambda: it.gateway.error)
        asked = len(it.memory.calls)
        for number in range(20):
            it.report(f"s{number}")
            await asyncio.sleep(0)
        assert len(it.memory.calls) == asked
    it.gateway.trust_changed()  # an operator has done something: no reason to wait
    await until(lambda: it.shown() == ["s19.west.example"])


# --- trust -------------------------------------------------------------------------------------------


async def test_trust_that_changes_is_handed_over_again_and_trust_that_does_not_is_not(it):
    it.start()
    await until(lambda: it.memory.trust == trust("east"))
    it.gateway.trust_changed()
    it.given = trust("east", "north")
    it.gateway.trust_changed()
    await until(lambda: it.memory.trust == trust("east", "north"))
    it.gateway.trust_changed()
    it.report("a")
    await until(lambda: it.memory.published)
    assert it.memory.calls.count("gateway_trust") == 2


async def test_trust_that_changes_while_it_is_handed_over_comes_before_the_next_route(it, monkeypatch):
    believe = it.memory.believe
    loop = asyncio.get_running_loop()

    def then_another_peer_comes(trusted):
        believe(trusted)
        if len(trusted.peers) == 1:
            it.given = trust("east", "north")
            loop.call_soon_threadsafe(it.gateway.trust_changed)

    it.report("a")
    await it.gateway.port.trust(trust())
    it.memory.calls.clear()
    monkeypatch.setattr(it.memory, "believe", then_another_peer_comes)
    it.on_ingress(it.memory.ingress)
    it.gateway.heard = True
    it.start()
    await until(it.shown)
    assert it.memory.calls == ["gateway_trust", "gateway_trust", "gateway_publish"]


async def test_trust_that_was_not_taken_is_handed_over_again(it):
    with it.memory.outage():
        it.start()
        await until(lambda: it.gateway.error)
    await until(lambda: it.memory.trust == trust("east"))


async def test_without_a_certificate_nothing_is_led_and_the_reason_told(it):
    it.given = IdentityError("no certificate")
    (reconciler,) = it.reconcilers("main")
    ready(reconciler)
    offer(reconciler, "a.east.example")
    it.start()
    it.report("a")
    await until(lambda: it.gateway.error == "no certificate")
    with pytest.raises(GatewayUnavailable, match="no certificate"):
        await it.gateway.route()
    assert reconciler.routes_due
    assert it.memory.calls == []
    it.given = trust("east")
    it.gateway.trust_changed()
    await until(lambda: it.memory.published)


def test_a_peer_whose_bundle_cannot_be_read_is_left_out_of_the_trust(config):
    class Identity:
        class credentials:  # noqa: N801 - stands for an attribute
            certificate_pem, key_pem = b"certificate", b"key"

        @staticmethod
        def bundle(name):
            if name == "north":
                raise IdentityError("unreadable")
            return type("Bundle", (), {"pem": b"of " + name.encode()})

    peers = {
        name: config.peers["east"].model_copy(update={"trust_domain": f"{name}.x"}) for name in ("east", "north")
    }
    found = trust_of(Identity(), config.model_copy(update={"peers": peers}))
    assert found == Trust(
        certificate="certificate",
        key="key",
        peers=(PeerTrust(peer="east", trust_domain="east.x", bundle="of east"),),
    )
    assert "key=" not in repr(found)


# --- out of this mesh --------------------------------------------------------------------------------


async def test_all_imports_of_all_registries_are_asked_for_at_once_and_each_gets_its_answers(it):
    first, second = it.reconcilers("main", "other")
    ready(first, "old.east.example")
    ready(second, "older.east.example")
    offer(first, "a.east.example")
    offer(second, "a.east.example", "b.east.example")
    await it.gateway.route()
    assert it.memory.calls == ["gateway_trust", "gateway_import"]
    assert {key.name for key in it.memory.imported} == {"a.east.example", "b.east.example"}
    assert [len(each.plan(NOW)) for each in (first, second)] == [1, 2]
    assert it.gateway.imported == 2
    assert it.said == ["routed"]


async def test_what_one_registry_keeps_and_another_asks_for_is_asked_for(it, monkeypatch):
    asked = []
    routes = it.gateway.egress.routes

    async def spied(wanted, keep):
        asked.append(({each.key.name for each in wanted}, keep and {key.name for key in keep}))
        return await routes(wanted, keep)

    monkeypatch.setattr(it.gateway.egress, "routes", spied)
    first, second = it.reconcilers("main", "other")
    ready(first, "a.east.example", "c.east.example")
    offer(second, "a.east.example")
    await it.gateway.route()
    assert asked == [(set(), None)], "what stands in the other is not known: nothing may go"
    ready(second)
    await it.gateway.route()
    assert asked[1:] == [({"a.east.example"}, {"c.east.example"})]


async def test_those_who_ask_at_the_same_time_are_answered_by_one_call(it):
    (reconciler,) = it.reconcilers("main")
    ready(reconciler)
    offer(reconciler, "a.east.example")
    await asyncio.gather(*(it.gateway.route() for _ in range(3)))
    assert it.memory.calls.count("gateway_import") == 1


async def test_a_call_that_fails_is_made_again(it):
    (reconciler,) = it.reconcilers("main")
    ready(reconciler)
    offer(reconciler, "a.east.example")
    with it.memory.outage(), pytest.raises(GatewayUnavailable):
        await it.gateway.route()
    assert "out of reach" in it.gateway.error
    assert reconciler.routes_due
    await it.gateway.route()
    assert it.gateway.error == ""


@pytest.mark.parametrize("error", [AdapterError("a fault"), ValueError("a fault"), asyncio.CancelledError()])
async def test_whatever_ends_a_call_it_is_made_again(it, monkeypatch, error):
    async def fails(wanted, keep):
        raise error

    (reconciler,) = it.reconcilers("main")
    ready(reconciler)
    monkeypatch.setattr(it.gateway.egress, "routes", fails)
    with pytest.raises(type(error)):
        await it.gateway.route()
    assert reconciler.routes_due


async def test_one_way_that_works_does_not_hide_that_the_other_does_not(it, monkeypatch):
    async def fails(routes):
        raise AdapterError("cannot publish")

    monkeypatch.setattr(it.gateway.port, "publish", fails)
    (reconciler,) = it.reconcilers("main")
    ready(reconciler)
    it.start()
    it.report("a")
    await until(lambda: it.gateway.error)
    offer(reconciler, "a.east.example")
    await it.gateway.route()
    assert it.gateway.error == "cannot publish"


async def test_the_way_out_may_be_anothers_and_neither_waits_for_the_other(make):
    it = make(egress=True)
    (reconciler,) = it.reconcilers("main")
    ready(reconciler)
    offer(reconciler, "a.east.example")
    it.start()
    with it.outside.outage():
        it.report("a")
        await until(it.shown)
        await until(lambda: it.gateway.error)
        with pytest.raises(GatewayUnavailable, match=r"egress \(memory\)"):
            await it.gateway.route()
    await until(lambda: it.outside.trust is not None)
    with it.memory.outage():
        await it.gateway.route()
    assert set(it.outside.calls) == {"gateway_trust", "gateway_import"}
    assert set(it.memory.calls) == {"gateway_trust", "gateway_publish"}


async def test_a_gateway_that_only_leads_out_is_asked_for_no_ingress(make):
    it = make(into=False)
    assert it.gateway.port is None
    await it.gateway.follow_ingress()
    it.start()
    await until(lambda: it.memory.trust is not None)
    it.report("a")
    (reconciler,) = it.reconcilers("main")
    ready(reconciler)
    await it.gateway.route()
    assert set(it.memory.calls) == {"gateway_trust", "gateway_import"}


# --- lanes -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def importing(it, *ports):
    """Lanes over registries in memory, and the gateway of `it`."""
    lanes = [Lane(port, Reconciler("west", it.config), it.gateway) for port in ports]
    it.gateway.reconcilers = tuple(lane.reconciler for lane in lanes)
    importer = Importer(it.config, lanes)
    it.gateway._on_routed = importer.routed
    importer.set_local_names(frozenset())
    for number, lane in enumerate(lanes):
        it.supervisor.start(f"lane {number}", lane.run)
    importer.begin("east")
    yield importer
    await it.supervisor.stop_all()


async def codes(importer, *received):
    return [verdict.code for verdict in await importer.deliver("east", received)]


def taken(name):
    return Received(Offer("n", service(name)), 100)


def gone(name):
    return Received(Withdraw("n", name), 10)


async def test_an_import_is_written_with_its_route_and_removed_before_that_goes(it, make_port, memory):
    async with importing(it, make_port()) as importer:
        assert await codes(importer, taken("a.east.example")) == [OK]
        (imported,) = memory.imported().values()
        assert imported.route == Route(
            endpoints=dict.fromkeys([each.id for each in imported.service.instances],
                                    (Endpoint(address="192.0.2.2", port=20_000),)), originates_tls=True
        )  # fmt: skip
        assert await codes(importer, gone("a.east.example")) == [OK]
        assert memory.imported() == {}
        await until(lambda: not it.memory.imported)


async def test_while_the_gateway_is_down_removals_pass_and_writes_wait(it, make_port, memory):
    async with importing(it, make_port()) as importer:
        assert await codes(importer, taken("a.east.example"), taken("b.east.example")) == [OK, OK]
        with it.memory.outage():
            assert await codes(importer, taken("c.east.example")) == [UNAVAILABLE]
            await until(lambda: "out of reach" in importer.lanes[0].error)
            await codes(importer, gone("a.east.example"))
            await until(lambda: {key.name for key in memory.imported()} == {"b.east.example"})
        await until(lambda: {key.name for key in memory.imported()} == {"b.east.example", "c.east.example"})
        await until(lambda: not importer.lanes[0].error)
        assert await codes(importer, taken("c.east.example"), gone("a.east.example")) == [OK, OK]


async def test_a_removal_does_not_wait_for_the_next_attempt_at_the_gateway(it, make_port, memory, monkeypatch):
    async with importing(it, make_port()) as importer:
        assert await codes(importer, taken("a.east.example")) == [OK]
        monkeypatch.setattr("hamlet_core.backoff.delay", lambda *_, **__: 3600.0)
        with it.memory.outage():
            assert await codes(importer, taken("b.east.example")) == [UNAVAILABLE]
            await until(lambda: importer.lanes[0].error)
            asked = len(it.memory.calls)
            await codes(importer, gone("a.east.example"))
            await until(lambda: memory.imported() == {})
            assert len(it.memory.calls) == asked, "and asks nobody in vain"


async def test_what_the_gateway_refuses_is_refused_without_a_reason(it, make_port, memory):
    it.memory.refuse["a.east.example"] = "no port is free on 10.1.2.3"
    async with importing(it, make_port()) as importer:
        for _ in range(2):
            (verdict,) = await importer.deliver("east", [taken("a.east.example")])
            assert (verdict.code, verdict.reason) == (INVALID, "our registry cannot hold it")
        assert "10.1.2.3" in importer.lanes[0].reconciler.status("east").rejected["a.east.example"]


async def test_a_route_that_is_asked_for_does_not_make_the_registries_be_listed_again(it, make_port, memory):
    port = make_port()
    listed = []
    imports = port.imports

    async def counted():
        listed.append(1)
        return await imports()

    port.imports = counted
    async with importing(it, port) as importer:
        for number in range(5):
            assert await codes(importer, taken(f"s{number}.east.example")) == [OK]
        assert len(listed) == 1


async def test_with_one_registry_down_the_others_are_written_and_no_route_goes(it, make_port, memory):
    down = make_port()

    async def silent():
        raise RegistryUnavailable("down")

    imports, down.imports = down.imports, silent
    it.memory.imported[ImportKey("east", "old.east.example")] = None
    async with importing(it, make_port(), down) as importer:
        await codes(importer, taken("a.east.example"))
        await until(lambda: {key.name for key in memory.imported()} == {"a.east.example"})
        assert ImportKey("east", "old.east.example") in it.memory.imported
        down.imports = imports
        await until(lambda: not any(lane.error for lane in importer.lanes))
        await until(lambda: ImportKey("east", "old.east.example") not in it.memory.imported)


async def test_an_egress_of_its_own_that_is_gone_is_told_although_nothing_is_asked_of_it(make, monkeypatch):
    monkeypatch.setattr("hamlet_core.backoff.delay", lambda *_, **__: 0.01)
    it = make(egress=True)
    following = asyncio.create_task(it.gateway.follow_egress())
    try:
        await asyncio.sleep(0)
        with it.outside.outage():
            await until(lambda: "egress (memory)" in it.gateway.error, "it is told")
        await until(lambda: not it.gateway.error, "and so is its return")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_the_gateway_that_leads_both_ways_is_followed_once(make):
    it = make()
    await asyncio.wait_for(it.gateway.follow_egress(), 10)
