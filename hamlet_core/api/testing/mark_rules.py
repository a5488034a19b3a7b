"""R9: one mark for a lost peer, in the backend itself."""

# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest

from hamlet_core.api import HamletError, RegistryUnavailable, WriteImport
from hamlet_core.api.testing.agents import Agents, apply, imports_of, write
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.stage import RegistryStage

LOST = datetime(2024, 5, 17, 8, 30, 15, tzinfo=UTC)


class MarkRules(RegistryStage):
    """The checks of `registry_mark_peer`."""

    def test_r9_a_lost_peer_is_known_after_a_restart_and_its_imports_stay(self, agents: Agents) -> None:
        lost, there = self.imported("stock"), self.imported("stock", self.names.other_peer)
        agent = agents.start()
        write(agent, lost, there)
        assert agent.registry_mark_peer(peer=self.names.peer, lost_since=LOST) is True
        standing = imports_of(agents.restart(agent))
        assert {key: each.lost_since for key, each in standing.items()} == {lost.key: LOST, there.key: None}
        assert {key: each.digest for key, each in standing.items()} == {
            each.key: each.digest for each in (lost, there)
        }

    def test_r9_a_peer_that_is_back_has_no_mark(self, backend: RegistryBackend, agents: Agents) -> None:
        service = self.imported("stock")
        agent = agents.start()
        write(agent, service)
        before = dict(backend.entries())
        agent.registry_mark_peer(peer=self.names.peer, lost_since=LOST)
        assert dict(backend.entries()) != before, "the mark is not visible in the backend"
        agent.registry_mark_peer(peer=self.names.peer, lost_since=None)
        assert dict(backend.entries()) == before
        assert imports_of(agents.restart(agent))[service.key].lost_since is None

    def test_r9_a_peer_that_is_back_leaves_the_mark_of_another(self, agents: Agents) -> None:
        back, lost = self.imported("stock"), self.imported("stock", self.names.other_peer)
        agent = agents.start()
        write(agent, back, lost)
        for each in (back, lost):
            agent.registry_mark_peer(peer=each.peer, lost_since=LOST)
        agent.registry_mark_peer(peer=back.peer, lost_since=None)
        standing = imports_of(agents.restart(agent))
        assert {key: each.lost_since for key, each in standing.items()} == {back.key: None, lost.key: LOST}

    @pytest.mark.parametrize(
        "another",
        ["trust_domain", "registry"],
        ids=["of another trust domain", "of another registry"],
    )
    def test_r9_a_peer_that_one_agent_has_lost_is_not_lost_to_another(self, agents: Agents, another: str) -> None:
        identity = {another: getattr(self.names, f"other_{another}")}
        service = self.imported("stock")
        agent = agents.start()
        write(agent, service)
        for ours, others in ((LOST, None), (None, LOST)):
            agent.registry_mark_peer(peer=self.names.peer, lost_since=ours)
            agents.stop(agent)
            agent = agents.start(**identity)
            apply(agent, WriteImport(self.imported("mail")))
            with contextlib.suppress(HamletError):  # a registry may have no place for a mark of each agent
                agent.registry_mark_peer(peer=self.names.peer, lost_since=others)
            agents.stop(agent)
            agent = agents.start()
            assert imports_of(agent)[service.key].lost_since == ours

    def test_r9_a_mark_is_not_said_to_stand_that_could_not_be_made(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        write(agent, self.imported("stock"))
        with backend.outage(), pytest.raises(RegistryUnavailable):
            agent.registry_mark_peer(peer=self.names.peer, lost_since=LOST)
        with backend.deny() or backend.outage(), pytest.raises(RegistryUnavailable):
            agent.registry_mark_peer(peer=self.names.peer, lost_since=LOST)

    def test_r9_a_write_leaves_the_mark_of_a_lost_peer(self, agents: Agents) -> None:
        agent = agents.start()
        write(agent, self.imported("stock"))
        agent.registry_mark_peer(peer=self.names.peer, lost_since=LOST)
        write(agent, self.imported("stock", address="203.0.113.8"), self.imported("mail"))
        assert [each.lost_since for each in imports_of(agent).values()] == [LOST, LOST]

    def test_r9_a_peer_without_entries_is_marked_or_not_but_never_fails(self, agents: Agents) -> None:
        agent = agents.start()
        assert agent.registry_mark_peer(peer=self.names.peer, lost_since=LOST) is True
        assert agent.registry_mark_peer(peer=self.names.peer, lost_since=None) is True
        assert imports_of(agent) == {}
