"""R10: what is well and what is wrong is a finding, whatever the backend does."""

# ruff: noqa: D102 - the name of a test is its documentation

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import pluggy

from hamlet_core.api import Finding, Severity
from hamlet_core.api.testing.agents import Agents
from hamlet_core.api.testing.backend import RegistryBackend
from hamlet_core.api.testing.stage import RegistryStage


class CheckRules(RegistryStage):
    """The checks of `registry_check`."""

    def test_r10_where_all_is_well_it_says_so(self, agents: Agents) -> None:
        well = severities(agents.start())
        assert well, "where all is well it says nothing"
        assert Severity.ERROR not in well

    def test_r10_an_outage_is_a_finding_and_is_not_raised(self, backend: RegistryBackend, agents: Agents) -> None:
        agent = agents.start()
        with backend.outage():
            assert Severity.ERROR in severities(agent)
        assert Severity.ERROR not in severities(agent)

    def test_r10_a_server_that_is_silent_is_a_finding_in_time(self, backend: RegistryBackend, agents: Agents) -> None:
        with ThreadPoolExecutor(1) as somebody:  # who waits is let go when the silence is over
            with backend.silence() or backend.outage():
                checking = somebody.submit(severities, agents.start())
                wait([checking], self.deadline)
                assert checking.done(), f"it waits for an answer after {self.deadline:g} s"
            assert Severity.ERROR in checking.result()

    def test_r10_missing_rights_are_a_finding_and_are_not_raised(
        self, backend: RegistryBackend, agents: Agents
    ) -> None:
        agent = agents.start()
        with backend.deny() or backend.outage():
            assert Severity.ERROR in severities(agent)
        assert Severity.ERROR not in severities(agent)


def severities(agent: pluggy.HookRelay) -> set[Severity]:
    """How bad what a check finds is."""
    found: Sequence[Finding] = agent.registry_check()
    return {finding.severity for finding in found}
