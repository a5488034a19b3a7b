"""The kit closes everything that a check left open, also where closing one of them fails."""

import pytest

from hamlet_core.api import hookimpl
from hamlet_core.api.testing import (
    MemoryCoordinator,
    MemoryGateway,
    MemoryGatewayBackend,
    MemoryRegistry,
    Names,
    RegistryContract,
)
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.candidates import Candidates
from hamlet_core.api.testing.coordinator_contract import CoordinatorContract
from hamlet_core.api.testing.gateway_stage import GatewayAgents
from hamlet_core.api.testing.memory import MemoryAdapter
from hamlet_core.api.testing.memory_gateway import MemoryGatewayAdapter


@pytest.fixture
def closed():
    return []


def failing(base, closed, close):
    """An adapter that cannot be closed, and says that it was asked to."""

    def refuse(self):
        closed.append(self)
        raise OSError("cannot close")

    return type("Failing", (base,), {close: hookimpl(refuse)})


def test_a_watch_that_fails_when_it_is_stopped_keeps_no_adapter_open_and_no_other_watch_running(closed, tmp_path):
    class Adapter(MemoryAdapter):
        @hookimpl
        def registry_watch(self, stop):
            yield from super().registry_watch(stop)
            raise RuntimeError("stopped")

        @hookimpl
        def registry_close(self):
            closed.append(self)

    class Registry(MemoryRegistry):
        def open(self, context):
            return Adapter(self, context)

    agents = Agents(Registry(), tmp_path)
    watches = [agents.watch(agents.start()) for _ in range(2)]
    for each in watches:
        each.until(lambda _: True, RegistryContract.deadline)
    with pytest.raises(AssertionError, match="stopped"):
        agents.stop_all()
    assert len(closed) == 2
    assert [type(each.error) for each in watches] == [RuntimeError, RuntimeError]


def test_an_adapter_that_cannot_be_closed_keeps_no_other_open(closed, tmp_path):
    adapter_type = failing(MemoryAdapter, closed, "registry_close")
    registry = MemoryRegistry()
    registry.open = lambda context: adapter_type(registry, context)
    agents = Agents(registry, tmp_path)
    agents.start(), agents.start()
    with pytest.raises(OSError, match="cannot close"):
        agents.stop_all()
    assert len(closed) == 2


def test_a_gateway_that_cannot_be_closed_keeps_no_other_open(closed, tmp_path):
    adapter_type = failing(MemoryGatewayAdapter, closed, "gateway_close")
    backend = MemoryGatewayBackend(gateway := MemoryGateway())
    backend.open = lambda _: adapter_type(gateway)
    agents = GatewayAgents(backend, tmp_path, Names())
    agents.start(), agents.start()
    with pytest.raises(OSError, match="cannot close"):
        agents.stop_all()
    assert len(closed) == 2


@pytest.mark.parametrize("fails", ["coordinator_close", "stop"])
def test_a_candidate_that_cannot_be_closed_keeps_no_other_leading(fails, monkeypatch, tmp_path):
    candidates = Candidates(memory := MemoryCoordinator(), tmp_path, Names())
    candidates.grace = 30.0
    stage, agents = CoordinatorContract(), [candidates.start(), candidates.start(mesh="other")]
    stage.until(lambda: all(each.leads for each in agents), "both lead")

    def refuse():
        raise OSError("cannot close")

    for each in agents:
        if fails == "stop":
            each._stop.on_stop(refuse)
        else:
            monkeypatch.setattr(each.hooks, fails, refuse)
    with pytest.raises((OSError, ExceptionGroup)):
        candidates.end_all()
    assert all(each.ended for each in agents)
    assert memory.entries() == {}
