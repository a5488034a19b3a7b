import asyncio
from contextlib import asynccontextmanager

import pytest

from hamlet_core import backoff
from hamlet_core.agent.publisher import Publisher
from hamlet_core.api import Snapshot
from hamlet_core.api.testing.samples import local_service
from hamlet_core.plugins.attribution import FAULT
from tests.support.sessions import until


class Publication:
    """What a registry told, and whether names changed."""

    def __init__(self):
        self.heard = []

    def observe(self, registry, batch, now):
        self.heard.append(batch)
        return True


@asynccontextmanager
async def publishing(port):
    publication, changes = Publication(), []
    made = Publisher(port, publication, lambda _, names_changed: changes.append(names_changed))
    made.publication, made.changes = publication, changes
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def publisher(make_port):
    async with publishing(make_port()) as made:
        yield made


async def test_what_the_registry_reports_is_published_and_an_outage_changes_nothing(memory, monkeypatch, publisher):
    monkeypatch.setattr(backoff, "delay", lambda *_, **__: 0.1)
    memory.add_local(local_service("a"))
    await until(lambda: publisher.reported and len(publisher.publication.heard) >= 1)
    with memory.outage():
        await until(lambda: "out of reach" in publisher.error)
        heard = len(publisher.publication.heard)
        silent_since = publisher.since
        await until(lambda: "is out of reach" in publisher.error, "it was asked again, and said so in other words")
        assert len(publisher.publication.heard) == heard
        assert publisher.since == silent_since, "one outage, however often it is asked again"
    await until(lambda: not publisher.error)
    assert [each.name for each in publisher.publication.heard[-1].services] == ["a"]
    assert set(publisher.changes) == {True}


def raises(stop):
    raise KeyError("orders")


def tells_no_snapshot(stop):
    yield ()


def ends(stop):
    yield Snapshot(())


@pytest.mark.parametrize(
    ("watch", "error"),
    [(raises, "KeyError: 'orders'"), (tells_no_snapshot, "must be a Snapshot"), (ends, "without being asked to")],
)
async def test_a_fault_of_the_adapter_says_what_to_do_about_it(make_port, watch, error):
    async with publishing(make_port(registry_watch=watch)) as publisher:
        await until(lambda: error in publisher.error)
        assert publisher.mend == FAULT
