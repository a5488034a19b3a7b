"""The coordinator's word decides whether this agent leads; what it cannot say counts as no."""

import asyncio
from types import SimpleNamespace

import pytest

from hamlet_core.agent.leadership import ANOTHER_LEADS, Leadership
from hamlet_core.api import AdapterContext, CoordinatorUnavailable, Severity, hookimpl
from hamlet_core.api.testing import MemoryCoordinator
from hamlet_core.config.driven import Coordinator
from hamlet_core.config.references import Referenced
from hamlet_core.plugins.coordinator_port import CoordinatorPort
from tests.support.meshes import eventually

TTL = 15.0
"""Seconds: each asks every other one, and a machine that stands still for some of them costs nobody the lead."""
LEADS = True


@pytest.fixture
def memory():
    return MemoryCoordinator(TTL)


@pytest.fixture
async def open_leadership(memory, tmp_path, at_once):
    """Start agents' leaderships on the memory; each is stopped at the end."""
    opened = []

    def start(adapter=None):
        context = AdapterContext(
            name="coordinator", mesh="west", domain="west.example", trust_domain="west.example", directory=tmp_path
        )
        adapter = adapter or memory.open(context)
        opened.append(Leadership(CoordinatorPort(memory.adapter_type(), adapter, stop_timeout=2.0)))
        opened[-1].adapter = adapter
        opened[-1].start()
        return opened[-1]

    yield start
    for each in opened:
        await each.stop()


async def test_before_the_coordinator_has_spoken_nobody_leads(open_leadership):
    leadership = open_leadership()
    assert leadership.stands_by.is_set()
    assert leadership.why_not == "standing by: waiting for the coordinator"


async def test_one_leads_and_the_other_takes_over_when_it_stops(open_leadership):
    first = open_leadership()
    await first.leads.wait()
    second = open_leadership()
    await eventually(lambda: second.why_not == ANOTHER_LEADS)
    assert first.why_not == ""
    await first.stop()
    assert not first.leads.is_set()
    await second.leads.wait()


async def test_a_leader_that_is_cut_off_stands_by_says_why_and_leads_again_later(open_leadership, memory):
    asked, lead = [], memory.lead
    memory.lead = lambda *given: (asked.append(memory.ttl), lead(*given))[1]
    memory.ttl = 2.0  # so it soon finds out
    leadership = open_leadership()
    await leadership.leads.wait()
    with memory.cut(leadership.adapter):
        await leadership.stands_by.wait()
        assert not leadership.leads.is_set()
        await eventually(lambda: "out of reach" in leadership.why_not)
        findings = await leadership.check()
        assert [each.severity for each in findings] == [Severity.WARNING, Severity.ERROR]
        memory.ttl = TTL  # from when it is asked the next time
        await eventually(lambda: asked[-1] == TTL)
    await leadership.leads.wait()
    assert leadership.error == ""
    assert [each.message for each in await leadership.check()] == ["this agent leads", "in reach"]


class Odd:
    """Says what no coordinator may say."""

    def __init__(self, *words):
        self.words = words

    @hookimpl
    def coordinator_lead(self, stop):
        yield from self.words
        stop.wait(20)

    @hookimpl
    def coordinator_check(self):
        return []


async def test_a_word_that_is_no_yes_and_no_no_counts_as_no(open_leadership):
    leadership = open_leadership(Odd(LEADS, 1))
    await eventually(lambda: "yielded 1; True or False is due" in leadership.error)
    assert not leadership.leads.is_set()


async def test_an_adapter_that_ends_by_itself_is_asked_again(open_leadership):
    class Ends(Odd):
        @hookimpl
        def coordinator_lead(self, stop):
            self.words = (*self.words, "asked")
            yield True

    adapter = Ends()
    open_leadership(adapter)
    await eventually(lambda: len(adapter.words) > 2)


async def test_closing_twice_does_no_harm(open_leadership):
    leadership = open_leadership()
    await leadership.leads.wait()
    await asyncio.gather(leadership.stop(), leadership.stop())


async def test_the_port_names_the_coordinator_in_what_it_raises(open_leadership):
    class Fails(Odd):
        @hookimpl
        def coordinator_lead(self, stop):
            raise CoordinatorUnavailable("nobody home", mend="wait")
            yield

    leadership = open_leadership(Fails())
    await eventually(lambda: leadership.error == "coordinator (memory): nobody home")


async def test_a_password_that_is_another_than_the_one_it_was_opened_with_is_named(memory, tmp_path):
    def settings(password):
        return Coordinator(kind="memory", password=Referenced(password, "file:pw"))

    context = AdapterContext(
        name="coordinator", mesh="west", domain="west.example", trust_domain="west.example", directory=tmp_path
    )
    port = CoordinatorPort(memory.adapter_type(), memory.open(context))
    leadership = Leadership(port, settings("before"))
    assert leadership.rotated(SimpleNamespace(coordinator=settings("before"))) == []
    assert leadership.rotated(SimpleNamespace(coordinator=settings("after"))) == ["coordinator.password"]
    await port.close()
