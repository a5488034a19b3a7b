"""The port of a gateway: its calls and their deadlines, and what of an adapter's answers is believed."""

import asyncio
import threading
from contextlib import aclosing

import pytest
import structlog

from hamlet_core.api import (
    AdapterError,
    Endpoint,
    GatewayUnavailable,
    ImportKey,
    ImportRoute,
    Ingress,
    PeerTrust,
    PublishRoute,
    Refused,
    Route,
    ServicePort,
    Severity,
    Trust,
    hookimpl,
)
from hamlet_core.api.testing import imported_service
from hamlet_core.api.testing.memory_gateway import MemoryGateway
from hamlet_core.plugins.gateway_port import GatewayPort

PLACE = Endpoint(address="192.0.2.9", port=1)
INGRESS = Ingress(endpoints=(PLACE,), sans=("west.example",))
TRUST = Trust(
    certificate="c", key="k", peers=(PeerTrust(peer="east", trust_domain="east.example", bundle="bundle of east"),)
)
STOCK = ImportRoute(peer="east", service=imported_service("stock").service)
MAIL = ImportRoute(peer="east", service=imported_service("mail").service)
WAY = Route(endpoints={"http": (PLACE,)}, originates_tls=True)


def published(sni):
    return PublishRoute(
        sni=sni,
        fqdn=sni,
        registry="main",
        service="a",
        port=ServicePort(name="http", port=80),
        endpoints=(PLACE,),
        peers=("east",),
    )


@pytest.fixture
def gateway():
    return MemoryGateway()


@pytest.fixture
async def make(gateway):
    """Make ports on the gateway in memory, with parts of its adapter replaced; all are closed at the end."""
    ports = []

    def make(wrappers=None, *, call_timeout=20.0, stop_timeout=5.0, **hooks):
        adapter_type = gateway.adapter_type()
        adapter = adapter_type.open(None, None)
        for name, function in hooks.items():
            function.__name__ = name
            setattr(adapter, name, hookimpl(function))
        limits = {"call_timeout": call_timeout, "stop_timeout": stop_timeout}
        ports.append(GatewayPort("gateway", adapter_type, adapter, wrappers or {}, **limits))
        return ports[-1]

    yield make
    for port in ports:
        await port.close()


async def test_every_call_reaches_the_adapter_and_its_answer_comes_back(make, gateway):
    port = make()
    assert (port.kind, port.title) == ("memory", "gateway (memory)")
    await port.trust(TRUST)
    gateway.refuse = {"b": "no"}
    assert await port.publish([published("a"), published("b")]) == {"b": Refused("no")}
    assert set(gateway.published) == {"a"}
    answers = await port.routes([STOCK], frozenset())
    assert set(answers) == {STOCK.key}
    assert gateway.trust == TRUST
    (finding,) = await port.check()
    assert finding.severity is Severity.OK
    assert gateway.calls == ["gateway_trust", "gateway_publish", "gateway_import"]
    await port.close()
    await port.close()
    assert gateway.calls[-1:] == ["gateway_close"]
    with pytest.raises(AdapterError, match=r"gateway \(memory\) is closed"):
        await port.trust(TRUST)


async def test_what_is_kept_is_handed_on_as_it_is(make):
    kept = []

    def gateway_import(routes, keep):
        kept.append(keep)
        return {}

    port = make(gateway_import=gateway_import)
    await port.routes([], None)
    await port.routes([], frozenset({ImportKey("east", "a")}))
    assert kept == [None, {ImportKey("east", "a")}]


async def test_each_ingress_is_yielded_as_it_changes(make, gateway):
    async with aclosing(make().ingress()) as found:
        first = await anext(found)
        gateway.move(INGRESS)
        assert await anext(found) == INGRESS
        assert first != INGRESS
        gateway.move(None)
        with pytest.raises(GatewayUnavailable, match=r"gateway \(memory\): no address is assigned yet"):
            await anext(found)


@pytest.mark.parametrize(
    "said",
    [
        Ingress(endpoints=(), sans=("a",)),
        Ingress(endpoints=(PLACE,), sans=()),
        ("192.0.2.1", 443),
        True,
    ],
)
async def test_an_ingress_that_nobody_could_reach_or_verify_is_a_fault_of_the_adapter(make, said):
    def gateway_ingress(stop):
        yield said

    with pytest.raises(AdapterError, match=r"gateway \(memory\): gateway_ingress yielded .* at least one endpoint"):
        async with aclosing(make(gateway_ingress=gateway_ingress).ingress()) as found:
            await anext(found)


async def test_a_gateway_may_say_that_it_leads_nothing_in(make):
    def gateway_ingress(stop):
        yield None
        stop.wait(20)

    async with aclosing(make(gateway_ingress=gateway_ingress).ingress()) as found:
        assert await anext(found) is None


@pytest.mark.parametrize("answer", [None, ["a"], {"a": "no"}, {"other": Refused("no")}])
async def test_refusals_that_are_none_are_a_fault_of_the_adapter(make, answer):
    def gateway_publish(routes):
        return answer

    with pytest.raises(AdapterError, match=r"gateway \(memory\): gateway_publish returned .* refusals by SNI"):
        await make(gateway_publish=gateway_publish).publish([published("a")])


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {STOCK.key: WAY},
        {STOCK.key: WAY, MAIL.key: None},
        {STOCK.key: WAY, MAIL.key: WAY, ImportKey("north", "x"): WAY},
        [WAY, WAY],
    ],
)
async def test_answers_that_are_not_those_to_the_routes_are_a_fault_of_the_adapter(make, answer):
    def gateway_import(routes, keep):
        return answer

    with pytest.raises(AdapterError, match=r"gateway \(memory\): gateway_import returned .* one answer for each"):
        await make(gateway_import=gateway_import).routes([STOCK, MAIL], frozenset())


@pytest.mark.parametrize(
    ("raised", "family"),
    [
        (GatewayUnavailable("gone"), GatewayUnavailable),
        (AdapterError("too old"), AdapterError),
        (OSError("gone"), AdapterError),
    ],
)
async def test_errors_are_told_apart_and_say_whose_they_are(make, raised, family):
    def gateway_trust(trust):
        raise raised

    with pytest.raises(family, match=r"gateway \(memory\): .*(gone|too old)") as caught:
        await make(gateway_trust=gateway_trust).trust(TRUST)
    assert caught.value.__cause__ is raised


async def test_a_call_past_its_deadline_means_that_the_gateway_is_out_of_reach_and_the_next_one_waits_for_it(make):
    go, running, most = threading.Event(), [], []

    def gateway_publish(routes):
        running.append(1)
        most.append(len(running))
        go.wait(20)
        running.pop()
        return {}

    port = make(call_timeout=0.1, gateway_publish=gateway_publish)
    with pytest.raises(GatewayUnavailable, match=r"no answer to gateway_publish within 0\.1 s"):
        await port.publish([])
    with pytest.raises(GatewayUnavailable, match="a call before this one has not returned"):
        await port.publish([])
    go.set()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await port.publish([]) == {}
                break
            except GatewayUnavailable:
                continue
    assert most[-1] == 1


async def test_a_check_that_fails_or_hangs_is_a_finding(make, gateway):
    go = threading.Event()

    def fails():
        raise OSError("gone")

    def hangs():
        go.wait(20)
        return []

    (failed,) = await make(gateway_check=fails).check()
    (hung,) = await make(gateway_check=hangs, call_timeout=0.1).check()
    go.set()
    assert (failed.severity, hung.severity) == (Severity.ERROR, Severity.ERROR)
    assert "gone" in failed.message
    assert "no answer to gateway_check" in hung.message
    with gateway.outage():
        (finding,) = await make().check()
    assert finding.severity is Severity.ERROR


async def test_closing_goes_on_whatever_the_adapter_does(make):
    def gateway_close():
        raise OSError("stuck")

    port = make(gateway_close=gateway_close)
    with structlog.testing.capture_logs() as logs:
        await port.close()
    assert [(each["hook"], each["adapter"]) for each in logs] == [("gateway_close", "gateway (memory)")]


@pytest.mark.parametrize(
    "hook", ["gateway_ingress", "gateway_trust", "gateway_publish", "gateway_import", "gateway_check"]
)
def test_an_adapter_without_a_hook_is_refused(gateway, hook):
    adapter = gateway.adapter_type().open(None, None)
    setattr(adapter, hook, None)
    with pytest.raises(AdapterError, match=rf"gateway \(memory\): the adapter does not implement {hook}") as refused:
        GatewayPort("gateway", gateway.adapter_type(), adapter)
    assert refused.value.mend == ""
    setattr(adapter, hook, lambda: None)
    with pytest.raises(AdapterError, match=rf"the adapter does not implement {hook}") as refused:
        GatewayPort("gateway", gateway.adapter_type(), adapter)
    assert refused.value.mend == f"mark {hook} with @hookimpl of hamlet_core.api"


async def test_a_wrapper_stands_around_the_adapter_and_may_not_answer_itself(make):
    seen = []

    class Audit:
        @hookimpl(wrapper=True)
        def gateway_publish(self, routes):
            seen.append(len(routes))
            return (yield)

    class Usurper:
        @hookimpl
        def gateway_publish(self, routes):
            return {}

    assert await make({"audit": Audit()}).publish([published("a")]) == {}
    assert seen == [1]
    with pytest.raises(AdapterError, match="wrapper of plugin 'usurper' answers gateway_publish itself"):
        make({"usurper": Usurper()})
