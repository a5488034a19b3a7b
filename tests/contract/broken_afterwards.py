"""Registry adapters with one fault each against R3 and R10: in how they fail, and in what they know afterwards."""

import time
from dataclasses import replace

from hamlet_core.api import Outcome, RegistryUnavailable, Severity, Snapshot, Status, Upsert, hookimpl
from hamlet_core.api.testing import local_service
from hamlet_core.api.testing.memory import MemoryAdapter


class EmptiesAndFails(MemoryAdapter):
    """Says that it fails, and before that, that nothing is there."""

    @hookimpl
    def registry_watch(self, stop):
        try:
            yield from super().registry_watch(stop)
        except RegistryUnavailable:
            yield Snapshot(())
            raise


class EndsWithoutAWord(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        try:
            yield from super().registry_watch(stop)
        except RegistryUnavailable:
            return


class EndsWithoutAWordWhenDenied(MemoryAdapter):
    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            if self.backend.denied:
                return
            yield batch


class NeverLearnsWhatWasHidden(MemoryAdapter):
    """Says that it fails, and takes what it was not shown for known when it begins again."""

    @hookimpl
    def registry_watch(self, stop):
        for batch in super().registry_watch(stop):
            hidden = self.backend.noted.setdefault("hidden", set())
            if self.backend.denied:
                hidden |= {each.service.name for each in batch if isinstance(each, Upsert)}
                raise RegistryUnavailable("403")
            if isinstance(batch, Snapshot):
                batch = Snapshot(tuple(each for each in batch.services if each.name not in hidden))
            yield batch


class SomethingElseAfterwards(MemoryAdapter):
    """Has, after a failure, a service that nobody registered."""

    @hookimpl
    def registry_watch(self, stop):
        try:
            for batch in super().registry_watch(stop):
                if self.backend.noted.get("failed") and isinstance(batch, Snapshot):
                    batch = Snapshot((*batch.services, local_service("ghost")))
                yield batch
        except RegistryUnavailable:
            self.backend.noted["failed"] = True
            raise


class ListsNothingAfterwards(MemoryAdapter):
    @hookimpl
    def registry_imports(self):
        try:
            listed = super().registry_imports()
        except RegistryUnavailable:
            self.backend.noted["failed"] = True
            raise
        return [] if self.backend.noted.get("failed") else listed


class ListsNothingUntilItWrites(ListsNothingAfterwards):
    @hookimpl
    def registry_apply(self, changes):
        outcomes = super().registry_apply(changes)
        self.backend.noted["failed"] = False
        return outcomes


class WritesNothingAfterwards(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        try:
            self.backend.reach()
        except RegistryUnavailable:
            self.backend.noted["failed"] = True
            raise
        if self.backend.noted.get("failed"):
            return [Outcome(key=change.key, status=Status.APPLIED) for change in changes]
        return super().registry_apply(changes)


class SaysItWhenTheSilenceIsOver(MemoryAdapter):
    """Waits for an answer as long as it takes, and then does not take it."""

    @hookimpl
    def registry_apply(self, changes):
        if self.backend.silent:
            while self.backend.silent:
                time.sleep(0.005)
            raise RegistryUnavailable("no answer")
        return super().registry_apply(changes)


class FindsOutWhenTheSilenceIsOver(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        found = super().registry_check()
        while self.backend.silent:
            time.sleep(0.005)
        return found


class SilenceIsWell(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        found = super().registry_check()
        return [replace(each, severity=Severity.OK) for each in found] if self.backend.silent else found


class IsNeverWell(MemoryAdapter):
    @hookimpl
    def registry_check(self):
        return [replace(each, severity=Severity.ERROR) for each in super().registry_check()]


class IsNotWellAfterwards(MemoryAdapter):
    """Finds what it found first for ever."""

    @hookimpl
    def registry_check(self):
        found = super().registry_check()
        if found[0].severity is Severity.ERROR:
            self.backend.noted["found"] = found
        return self.backend.noted.get("found", found)


FAULTS = {
    "test_r3_a_watch_that_begins_in_an_outage_yields_nothing_and_says_so": [EmptiesAndFails, EndsWithoutAWord],
    "test_r3_an_outage_ends_a_watch_and_withdraws_nothing": [EmptiesAndFails, EndsWithoutAWord],
    "test_r3_after_an_outage_everything_is_there_again": [ListsNothingAfterwards],
    "test_r3_nothing_is_said_to_be_written_in_an_outage": [WritesNothingAfterwards],
    "test_r3_a_watch_that_begins_while_the_server_is_silent_yields_nothing_and_says_so": [
        EmptiesAndFails,
        EndsWithoutAWord,
        SomethingElseAfterwards,
    ],
    "test_r3_who_writes_while_the_server_is_silent_is_told_in_time": [
        SaysItWhenTheSilenceIsOver,
        WritesNothingAfterwards,
    ],
    "test_r3_a_watch_without_rights_yields_nothing_and_says_so": [
        EmptiesAndFails,
        EndsWithoutAWord,
        SomethingElseAfterwards,
    ],
    "test_r3_rights_that_are_taken_away_withdraw_nothing": [EndsWithoutAWordWhenDenied, NeverLearnsWhatWasHidden],
    "test_r3_without_rights_nothing_is_listed_and_nothing_said_to_be_written": [
        ListsNothingAfterwards,
        ListsNothingUntilItWrites,
        WritesNothingAfterwards,
    ],
    "test_r10_where_all_is_well_it_says_so": [IsNeverWell],
    "test_r10_an_outage_is_a_finding_and_is_not_raised": [IsNotWellAfterwards],
    "test_r10_a_server_that_is_silent_is_a_finding_in_time": [FindsOutWhenTheSilenceIsOver, SilenceIsWell],
    "test_r10_missing_rights_are_a_finding_and_are_not_raised": [IsNotWellAfterwards],
}
