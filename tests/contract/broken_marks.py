"""Registry adapters with one fault each in the mark of a lost peer, against R9, by the check that must find it."""

from dataclasses import replace
from datetime import UTC, datetime

from hamlet_core.api import ImportKey, StandingImport, hookimpl
from hamlet_core.api.testing.memory import MemoryAdapter


class MarksInMemory(MemoryAdapter):
    def __init__(self, backend, context):
        super().__init__(backend, context)
        self.backend.lost.clear()


class MarkStays(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        return lost_since is None or super().registry_mark_peer(peer, lost_since)


class WriteClearsMark(MemoryAdapter):
    @hookimpl
    def registry_apply(self, changes):
        self.backend.lost.clear()
        return super().registry_apply(changes)


class OneBackAllBack(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        if lost_since is None:
            for each in [each for each in self.backend.lost if each[:2] == self._peer("")[:2]]:
                del self.backend.lost[each]
        return super().registry_mark_peer(peer, lost_since)


class LostToAll(MemoryAdapter):
    """A mark for each peer, whoever has lost it."""

    def _peer(self, peer):
        return ("", "", peer)

    def _ours(self, entry):
        mark = entry.mark
        return mark is not None and (mark.trust_domain, mark.registry) == super()._peer("")[:2]


class LostToAllRegistries(LostToAll):
    def _peer(self, peer):
        return (self.context.trust_domain, "", peer)


class LostToAllTrustDomains(LostToAll):
    def _peer(self, peer):
        return ("", self.context.name, peer)


class HidesTheMark(MemoryAdapter):
    """Keeps its marks where nobody sees them."""

    def __init__(self, backend, context):
        super().__init__(backend, context)
        backend.hidden = True


class MarksNowhere(MemoryAdapter):
    """Says that it has marked what it could not."""

    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        return self.backend.down or self.backend.denied or super().registry_mark_peer(peer, lost_since)


class MarksWithoutRights(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        return self.backend.denied or super().registry_mark_peer(peer, lost_since)


class AnswersNone(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        super().registry_mark_peer(peer, lost_since)


class LostFromTheStart(MemoryAdapter):
    """Lists who was never lost as lost, once somebody is."""

    @hookimpl
    def registry_imports(self):
        listed = super().registry_imports()
        since = next((each.lost_since for each in listed if each.lost_since is not None), None)
        return [replace(each, lost_since=each.lost_since or since) for each in listed]


class LostHasNoDigest(MemoryAdapter):
    @hookimpl
    def registry_imports(self):
        return [replace(each, digest="") if each.lost_since else each for each in super().registry_imports()]


class BackLeavesATrace(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        self.backend.rewrites += lost_since is None
        return super().registry_mark_peer(peer, lost_since)


class RemembersTheLoss(MemoryAdapter):
    """Takes the mark away, and lists the peer as lost all the same."""

    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        self.backend.noted[self._peer(peer)] = lost_since or self.backend.noted.get(self._peer(peer))
        return super().registry_mark_peer(peer, lost_since)

    @hookimpl
    def registry_imports(self):
        noted = self.backend.noted
        return [replace(each, lost_since=noted.get(self._peer(each.key.peer))) for each in super().registry_imports()]


class MarksInAnOutage(MemoryAdapter):
    """Says that it has marked what it could not."""

    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        return self.backend.down or super().registry_mark_peer(peer, lost_since)


class AnswersNoneWhenLost(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        return super().registry_mark_peer(peer, lost_since) and (lost_since is None or None)


class AnswersNoneWhenBack(MemoryAdapter):
    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        return super().registry_mark_peer(peer, lost_since) and (lost_since is not None or None)


class ListsThePeer(MemoryAdapter):
    """Lists, for a peer without imports, one that stands for it."""

    @hookimpl
    def registry_mark_peer(self, peer, lost_since):
        self.backend.noted["peer"] = peer
        return super().registry_mark_peer(peer, lost_since)

    @hookimpl
    def registry_imports(self):
        peer, since = self.backend.noted.get("peer"), datetime(2024, 1, 1, tzinfo=UTC)
        listed = super().registry_imports()
        if listed or peer is None:
            return listed
        return [StandingImport(key=ImportKey(peer, "mark"), local_name="mark", digest="", lost_since=since)]


FAULTS = {
    "test_r9_a_write_leaves_the_mark_of_a_lost_peer": [WriteClearsMark],
    "test_r9_a_peer_that_one_agent_has_lost_is_not_lost_to_another": [
        LostToAll,
        LostToAllRegistries,
        LostToAllTrustDomains,
    ],
    "test_r9_a_peer_that_is_back_leaves_the_mark_of_another": [OneBackAllBack],
    "test_r9_a_lost_peer_is_known_after_a_restart_and_its_imports_stay": [
        MarksInMemory,
        LostFromTheStart,
        LostHasNoDigest,
        AnswersNoneWhenLost,
    ],
    "test_r9_a_peer_that_is_back_has_no_mark": [MarkStays, HidesTheMark, BackLeavesATrace, RemembersTheLoss],
    "test_r9_a_mark_is_not_said_to_stand_that_could_not_be_made": [MarksNowhere, MarksWithoutRights, MarksInAnOutage],
    "test_r9_a_peer_without_entries_is_marked_or_not_but_never_fails": [
        AnswersNone,
        AnswersNoneWhenLost,
        AnswersNoneWhenBack,
        ListsThePeer,
    ],
}
