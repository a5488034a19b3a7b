"""Registry adapters with one fault each against R10, by the check that must find it."""

import time
from dataclasses import replace

from hamlet_core.api import RegistryUnavailable, Severity, hookimpl
from hamlet_core.api.testing.memory import MemoryAdapter


class SilentWhenWell(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        return [each for each in super().registry_check() if each.severity is not Severity.OK]


class OutageFailsCheck(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        self.backend.reach()
        return super().registry_check()


class OutageIsNotSeen(MemoryAdapter):
    """Says what it found when it was opened."""

    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.found = super().registry_check()

    @hookimpl
    def registry_check(self):
        return super().registry_check() if self.backend.denied or self.backend.silent else self.found


class ChecksInSilence(MemoryAdapter):
    """Waits for an answer as long as it takes."""

    @hookimpl
    def registry_check(self):
        while self.backend.silent:
            time.sleep(0.005)
        return super().registry_check()


class SilenceFailsCheck(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        if self.backend.silent:
            raise RegistryUnavailable("no answer")
        return super().registry_check()


class DeniedFailsCheck(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        if self.backend.denied:
            raise RegistryUnavailable("403")
        return super().registry_check()


class AsksForNoRights(MemoryAdapter):
    """Its check is content with an answer, whatever that says."""

    @hookimpl
    def registry_check(self):
        return [
            replace(each, severity=Severity.OK) if self.backend.denied else each for each in super().registry_check()
        ]


FAULTS = {
    "test_r10_where_all_is_well_it_says_so": [SilentWhenWell],
    "test_r10_an_outage_is_a_finding_and_is_not_raised": [OutageFailsCheck, OutageIsNotSeen],
    "test_r10_a_server_that_is_silent_is_a_finding_in_time": [ChecksInSilence, SilenceFailsCheck],
    "test_r10_missing_rights_are_a_finding_and_are_not_raised": [DeniedFailsCheck, AsksForNoRights],
}
