"""What is kept, what is held, what goes: lost peers, restarts, the brake, reloads, leaving."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hamlet_core.api import Endpoint, ImportKey, Outcome, StandingImport, Status
from hamlet_core.imports import State

HUNDRED = tuple(f"s{number:03}" for number in range(100))

# A lost link and a restart


def test_a_lost_peer_keeps_everything(bench):
    it = bench()
    it.sync(*"abc")
    it.lost()
    assert it.work() == []
    it.adopt()
    assert it.work() == []
    assert it.status().lost_since == it.now
    assert not it.status().complete


def test_a_catalog_that_breaks_off_removes_nothing(bench):
    it = bench()
    it.sync(*"abc")
    it.begin()
    it.offer("a")
    it.lost()
    it.begin()
    it.lost()
    assert it.work() == []


def test_a_deletion_that_was_not_done_yet_is_done_after_the_link_is_lost(bench):
    it = bench()
    it.sync(*"abc")
    it.withdraw("a")
    it.lost()
    assert it.work() == ["-a"]


def test_a_restart_writes_and_removes_nothing_when_the_catalog_is_the_same(bench):
    it = bench()
    it.sync(*"abc")
    it.restart()
    assert it.work() == []
    it.begin()
    for name in "abc":
        it.offer(name)
        assert it.work() == []
        assert it.settled(name).state is State.APPLIED
    it.complete()
    assert it.work() == []


def test_what_went_during_a_restart_goes_when_the_catalog_is_complete(bench):
    it = bench()
    it.sync(*"abcde")
    it.restart()
    it.begin()
    for name in "abcd":
        it.offer(name)
    assert it.work() == []
    it.complete()
    assert it.work() == ["-e"]


def test_a_repair_of_what_a_lost_peer_offered_is_made_while_it_is_lost(bench):
    it = bench()
    it.sync("a")
    it.lost()
    it.entries.clear()
    it.adopt()
    assert it.work() == ["+a"]


def test_an_end_of_a_catalog_without_a_stream_infers_nothing(bench):
    it = bench()
    it.sync(*"abcde")
    it.lost()
    it.complete()
    assert not it.status().complete
    assert it.work() == []


# Retention


def test_what_a_lost_peer_had_is_withdrawn_when_the_retention_ends_without_a_brake(bench):
    it = bench(east={"retain": "24h"}, west={})
    it.sync(*"abc")
    it.sync("z", peer="west")
    it.lost()
    end = it.now + timedelta(hours=24)
    it.mark()
    it.later(seconds=30)
    it.mark()
    assert it.reconciler.next_due(it.now) == end
    it.now = end - timedelta(seconds=1)
    assert it.work() == []
    it.now = end
    assert sorted(it.work()) == ["-a", "-b", "-c"]
    assert it.standing("west") == ["z"]
    assert it.status().lost_since == end - timedelta(hours=24)
    it.mark()
    assert it.reconciler.next_due(it.now) is None


def test_a_retention_of_zero_is_for_ever(bench):
    it = bench(east={"retain": 0})
    it.sync("a")
    it.lost()
    it.later(days=1000)
    assert it.work() == []


def test_the_clock_of_the_retention_runs_from_the_first_loss_until_a_catalog_is_complete(bench):
    it = bench(east={"retain": "1h"})
    it.sync("a")
    it.lost()
    it.later(minutes=50)
    it.begin()
    it.later(minutes=5)
    it.lost()
    it.later(minutes=5)
    assert it.work() == ["-a"]


def test_a_catalog_in_progress_is_no_time_for_the_end_of_the_retention(bench):
    it = bench(east={"retain": "1h"})
    it.sync("a")
    it.lost()
    it.later(minutes=59)
    it.begin()
    it.later(minutes=10)
    assert it.work() == []
    it.offer("a")
    it.complete()
    it.later(hours=10)
    assert it.work() == []
    assert it.status().lost_since is None


def test_the_retention_survives_a_restart_by_the_mark_in_the_registry(bench):
    it = bench(east={"retain": "1h"})
    it.sync("a")
    it.lost()
    lost_since = it.now
    it.later(minutes=1)
    assert it.mark() == [("east", lost_since)]
    it.later(minutes=30)
    it.restart()
    assert it.status().lost_since == lost_since
    it.later(minutes=28)
    assert it.work() == []
    it.later(minutes=1)
    assert it.work() == ["-a"]


def test_a_peer_that_was_there_when_the_agent_died_is_lost_since_the_restart(bench):
    it = bench(east={"retain": "1h"})
    it.sync("a")
    it.later(days=3)
    it.restart()
    assert it.status().lost_since == it.now
    it.later(minutes=59)
    assert it.work() == []
    it.later(minutes=1)
    assert it.work() == ["-a"]


def test_a_peer_that_never_had_anything_here_is_not_lost(bench):
    it = bench()
    assert it.status().lost_since is None
    assert it.reconciler.next_due(it.now) is None


def test_a_shorter_retention_counts_from_the_loss(bench):
    it = bench(east={"retain": "24h"})
    it.sync("a")
    it.lost()
    it.later(hours=2)
    it.configure(east={"retain": "1h"})
    assert it.work() == ["-a"]


def test_after_the_retention_the_catalog_is_taken_anew(bench):
    it = bench(east={"retain": "1h"})
    it.sync("a", "b")
    it.lost()
    it.later(hours=1)
    it.work()
    it.sync("a", "b")
    assert it.standing() == ["a", "b"]
    assert it.status().lost_since is None


# Marks


def test_a_blip_is_not_marked(bench):
    it = bench()
    it.sync("a")
    it.lost()
    it.later(seconds=29)
    assert it.mark() == []
    it.begin()
    it.later(seconds=5)
    assert it.mark() == []
    it.offer("a")
    it.complete()
    assert it.mark() == []


def test_a_lost_peer_is_marked_once_after_half_a_minute_and_unmarked_when_its_catalog_is_complete(bench):
    it = bench()
    it.sync("a")
    it.lost()
    lost_since = it.now
    assert it.reconciler.next_due(it.now) == lost_since + timedelta(seconds=30)
    it.now = it.reconciler.next_due(it.now)
    assert it.mark() == [("east", lost_since)]
    it.later(hours=1)
    assert it.mark() == []
    it.begin()
    assert it.mark() == []
    it.offer("a")
    it.complete()
    assert it.mark() == [("east", None)]
    assert it.mark() == []


def test_a_peer_without_entries_gets_no_mark(bench):
    it = bench()
    it.sync()
    it.lost()
    it.later(hours=1)
    assert it.mark() == []
    assert it.reconciler.next_due(it.now) is None


def test_a_mark_that_was_not_told_is_asked_for_again_after_a_while(bench):
    it = bench()
    it.sync("a")
    it.lost()
    it.later(seconds=30)
    asked = it.now
    assert len(it.reconciler.marks(it.now)) == 1
    assert it.reconciler.marks(it.now) == []
    assert it.reconciler.next_due(it.now) == asked + timedelta(seconds=30)
    it.later(seconds=30)
    assert len(it.mark()) == 1


def test_an_old_mark_that_no_listing_can_show_is_taken_away_with_the_first_entry(bench):
    it = bench()
    it.marks["east"] = it.now - timedelta(days=2)
    it.restart()
    it.catalog("a")
    it.work()
    assert it.reconciler.next_due(it.now) == it.now
    assert it.mark() == [("east", None)]
    assert it.mark() == []
    it.later(minutes=1)
    it.restart()
    assert it.work() == []


def test_a_mark_that_someone_took_away_is_made_again(bench):
    it = bench()
    it.sync("a")
    it.lost()
    it.later(minutes=1)
    it.mark()
    it.marks.clear()
    it.adopt()
    assert len(it.mark()) == 1


def test_the_mark_of_a_peer_that_is_gone_from_the_configuration_is_taken_away(bench):
    it = bench(east={}, west={})
    it.sync("a")
    it.lost()
    it.later(minutes=1)
    it.mark()
    it.configure(west={})
    it.work()
    assert it.mark() == [("east", None)]


def test_the_mark_of_an_orphan_stays(bench):
    it = bench(west={})
    key = ImportKey("east", "a")
    it.entries[key] = StandingImport(key=key, local_name="a", digest="1")
    it.marks["east"] = it.now
    it.restart()
    it.later(hours=1)
    assert it.mark() == []
    assert it.reconciler.next_due(it.now) is None


# The brake: what a catalog lacks


@pytest.mark.parametrize(
    ("before", "after", "removed", "held"),
    [
        ("abcde", "abcd", ["-e"], ""),
        ("abcde", "abc", [], "de"),
        ("ab", "a", [], "b"),
        ("a", "", [], "a"),
        ("abcdefghij", "abcdefg", ["-h", "-i", "-j"], ""),
        ("abcdefghij", "abcdef", [], "ghij"),
        ("abcd", "vwxyz", ["+v", "+w", "+x", "+y", "+z"], "abcd"),
        ("abcd", "abvwxyz", ["+v", "+w", "+x", "+y", "+z"], "cd"),
        ("abcd", "abcvwxyz", ["+v", "+w", "+x", "+y", "+z", "-d"], ""),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
def test_more_than_the_share_missing_from_a_catalog_is_held(bench, before, after, removed, held, restart):
    it = bench()
    it.sync(*before)
    it.lost()
    if restart:
        it.restart()
    it.catalog(*after)
    assert it.work() == removed
    assert "".join(it.status().held) == held
    for name in held:
        assert it.settled(name).state is State.HELD
        assert it.status().held[name].since == it.now
        assert "run `hamlet confirm east`" in it.status().held[name].reason


@pytest.mark.parametrize(("share", "held"), [("100%", ""), ("50%", ""), ("49%", "cd"), ("0%", "cd")])
def test_the_share_is_the_peers_setting(bench, share, held):
    it = bench(east={"brake": {"share": share}})
    it.sync(*"abcd")
    it.catalog("a", "b")
    it.work()
    assert "".join(it.status().held) == held


def test_what_is_held_passes_when_the_operator_confirms_it(bench):
    it = bench(east={"brake": {"release_after": 0}})
    it.sync(*"abcd")
    it.catalog("a")
    it.later(days=100)
    assert it.work() == []
    assert it.reconciler.confirm("east", it.now) == 3
    assert it.work() == ["-b", "-c", "-d"]
    assert it.status().held == {}
    assert it.reconciler.confirm("east", it.now) == 0


def test_what_is_held_passes_after_the_set_time(bench):
    it = bench(east={"brake": {"release_after": "1h"}})
    it.sync(*"abcd")
    it.catalog("a")
    assert it.work() == []
    assert it.reconciler.next_due(it.now) == it.now + timedelta(hours=1)
    it.later(minutes=59)
    assert it.work() == []
    it.later(minutes=1)
    assert it.work() == ["-b", "-c", "-d"]
    assert it.reconciler.next_due(it.now) is None


def test_the_set_time_does_not_pass_while_the_peer_is_lost(bench):
    it = bench(east={"brake": {"release_after": "1h"}})
    it.sync(*"abcd")
    it.catalog("a")
    it.lost()
    it.later(hours=2)
    assert it.work() == []
    it.begin()
    assert it.work() == []
    it.offer("a")
    it.offer("b")
    it.complete()
    assert it.work() == ["-c", "-d"]


def test_what_is_held_and_offered_again_is_no_longer_held(bench):
    it = bench()
    it.sync(*"abcd")
    it.catalog("a")
    it.offer("c")
    assert sorted(it.status().held) == ["b", "d"]
    assert it.settled("c").state is State.APPLIED
    it.reconciler.confirm("east", it.now)
    assert it.work() == ["-b", "-d"]


def test_what_is_held_and_deleted_by_the_owner_goes_at_once(bench):
    it = bench()
    it.sync(*"abcd")
    it.catalog("a")
    it.withdraw("b")
    assert it.work() == ["-b"]
    assert sorted(it.status().held) == ["c", "d"]


def test_what_is_held_is_still_repaired(bench):
    it = bench()
    it.sync(*"ab")
    it.catalog("a")
    del it.entries[ImportKey("east", "b")]
    it.adopt()
    assert it.work() == ["+b"]
    assert sorted(it.status().held) == ["b"]


def test_what_is_held_stays_held_from_then_on_in_the_next_catalog(bench):
    it = bench()
    it.sync(*"abcd")
    it.catalog("a")
    since = it.now
    it.later(minutes=5)
    it.catalog("a")
    assert {held.since for held in it.status().held.values()} == {since}
    assert it.work() == []


def test_more_that_is_missing_counts_with_what_is_held_already(bench):
    it = bench()
    it.sync(*"abcdefghij")
    it.catalog(*"abcdef")
    it.catalog(*"abcde")
    assert it.work() == []
    assert "".join(sorted(it.status().held)) == "fghij"


def test_what_vanished_from_the_registry_by_itself_is_no_longer_held(bench):
    it = bench()
    it.sync(*"ab")
    it.restart()
    it.catalog("a")
    assert list(it.status().held) == ["b"]
    del it.entries[ImportKey("east", "b")]
    it.adopt()
    assert it.status().held == {}
    assert it.work() == []


# The brake: a flood of deletions


def test_a_handful_of_deletions_is_never_a_flood(bench):
    it = bench()
    it.sync(*HUNDRED[:10])
    it.withdraw(*HUNDRED[:10])
    assert len(it.work()) == 10
    assert it.status().held == {}


@pytest.mark.parametrize(("count", "passes"), [(11, 10), (20, 10), (36, 10), (37, 11), (100, 30)])
def test_deletions_beyond_the_share_of_what_stood_are_held(bench, count, passes):
    it = bench()
    it.sync(*HUNDRED[:count])
    it.later(hours=1)
    for name in HUNDRED[:count]:
        it.withdraw(name)
        assert it.settled(name).state in {State.PENDING, State.HELD}
    assert len(it.work()) == passes
    assert sorted(it.status().held) == list(HUNDRED[passes:count])
    assert f"the owner deleted more than 30% of {count} services within 60 s" in it.settled(HUNDRED[count - 1]).reason


def test_the_window_of_the_flood_slides(bench):
    it = bench()
    it.sync(*HUNDRED)
    it.withdraw(*HUNDRED[:30])
    it.later(seconds=59)
    it.withdraw(HUNDRED[30])
    assert list(it.status().held) == [HUNDRED[30]]
    it.later(seconds=1)
    it.withdraw(HUNDRED[31])
    assert list(it.status().held) == [HUNDRED[30]]
    assert len(it.work()) == 31


def test_a_service_that_comes_and_goes_is_no_flood(bench):
    it = bench()
    it.sync(*HUNDRED[:5])
    for _ in range(100):
        it.withdraw(HUNDRED[0])
        it.offer(HUNDRED[0])
    it.withdraw(HUNDRED[0])
    assert it.status().held == {}
    assert it.work() == [f"-{HUNDRED[0]}"]


def test_a_share_of_one_holds_no_flood(bench):
    it = bench(east={"brake": {"share": 1}})
    it.sync(*HUNDRED)
    it.withdraw(*HUNDRED)
    assert len(it.work()) == 100


def test_a_flood_passes_when_it_is_confirmed_and_the_next_deletion_too(bench):
    it = bench()
    it.sync(*HUNDRED)
    it.withdraw(*HUNDRED[:50])
    assert it.reconciler.confirm("east", it.now) == 20
    it.withdraw(HUNDRED[50])
    assert len(it.work()) == 51


def test_what_a_flood_holds_is_held_through_the_next_catalog(bench):
    it = bench()
    it.sync(*HUNDRED)
    it.withdraw(*HUNDRED[:50])
    it.work()
    it.catalog(*HUNDRED[50:])
    assert it.work() == []
    assert len(it.status().held) == 20
    it.later(hours=1)
    assert len(it.work()) == 20


def test_one_peers_flood_does_not_hold_another_peers_deletions(bench):
    it = bench(east={}, west={})
    it.sync(*HUNDRED)
    it.sync(*(f"w{name}" for name in HUNDRED), peer="west")
    it.withdraw(*HUNDRED)
    it.withdraw("ws001", peer="west")
    assert it.status("west").held == {}


# Local services


def test_a_local_service_that_takes_a_name_withdraws_the_import_with_the_reason(bench):
    it = bench()
    it.sync("a", "b")
    it.reconciler.set_local_names({"A"})
    assert it.work() == ["-a"]
    assert "'a' is the name of a local service" in it.status().rejected["a"]
    assert it.settled("a").state is State.REJECTED
    it.reconciler.set_local_names(set())
    assert it.work() == ["+a"]


def test_a_local_service_withdraws_also_what_a_lost_peer_left(bench):
    it = bench()
    it.sync("a", "b")
    it.restart("a")
    assert it.work() == ["-a"]
    assert it.status().rejected == {"a": "the name a is now that of a local service, which goes first"}
    it.reconciler.set_local_names({"a", "b"})
    assert it.work() == ["-b"]


def test_what_a_lost_peer_left_stays_when_the_local_service_goes_before_it_was_removed(bench):
    it = bench()
    it.sync("a", "b")
    it.restart()
    it.reconciler.set_local_names({"a"})
    it.reconciler.set_local_names(set())
    assert it.work() == []
    assert it.status().rejected == {}


def test_a_local_service_that_goes_does_not_keep_what_goes_for_another_reason(bench):
    it = bench()
    it.sync("a", "b")
    it.restart()
    it.reconciler.set_local_names({"a"})
    it.reconciler.leave("east", it.now)
    it.reconciler.set_local_names(set())
    assert it.work() == ["-a", "-b"]


def test_a_local_service_that_came_before_the_listing_withdraws_too(bench):
    it = bench()
    it.sync("a", "b")
    it.reconciler = type(it.reconciler)("main", it.config)
    it.reconciler.set_local_names({"a"})
    it.adopt()
    assert it.work() == ["-a"]


def test_an_alias_that_becomes_local_is_withdrawn_and_comes_back(bench):
    it = bench(east={}, west={})
    it.sync("a")
    it.sync("a", peer="west")
    it.reconciler.set_local_names({"a-west"})
    assert it.work() == ["-a-west"]
    assert "is the name of a local service" in it.settled("a", "west").reason
    it.reconciler.set_local_names(set())
    assert it.work() == ["+a-west"]


# Collisions


def test_two_peers_with_one_fqdn_stand_under_the_name_and_the_alias(bench):
    it = bench(east={}, west={})
    it.catalog("orders.example", peer="west")
    it.catalog("orders.example")
    assert it.work() == ["+orders.example", "+orders-west.example"]
    assert it.standing("east") == ["orders.example"]
    assert it.status("west").aliases == {"orders.example": "orders-west.example"}
    assert it.status("east").aliases == {}


def test_the_one_that_stands_keeps_the_name_across_restarts(bench):
    it = bench(east={}, west={})
    it.sync("orders.example", peer="west")
    it.sync("orders.example")
    for _ in range(2):
        assert it.standing("west") == ["orders.example"]
        assert it.standing("east") == ["orders-east.example"]
        it.restart()
        it.sync("orders.example")
        it.sync("orders.example", peer="west")
    assert it.log == ["+orders.example", "+orders-east.example"]


def test_the_alias_stays_when_the_holder_goes_and_the_name_is_free_for_a_third(bench):
    it = bench(east={}, west={}, north={})
    it.sync("orders.example")
    it.sync("orders.example", peer="west")
    it.withdraw("orders.example")
    assert it.work() == ["-orders.example"]
    it.sync("orders.example", peer="north")
    assert it.standing("west") == ["orders-west.example"]
    assert it.standing("north") == ["orders.example"]


def test_the_second_of_one_peer_is_refused_and_taken_when_the_first_goes(bench):
    it = bench()
    it.begin()
    it.offer("one", fqdn="orders.example")
    assert "already taken by 'one' of the same peer" in it.offer("two", fqdn="orders.example")
    it.work()
    assert it.settled("two").state is State.REJECTED
    it.withdraw("one")
    assert it.work() == ["-orders.example", "+orders.example"]
    assert it.settled("two").state is State.APPLIED


def test_what_is_kept_of_a_lost_peer_keeps_its_name(bench):
    it = bench(east={}, west={})
    it.sync("orders.example", peer="west")
    it.restart()
    it.sync("orders.example")
    assert it.standing("east") == ["orders-east.example"]
    assert it.standing("west") == ["orders.example"]


# Reload and leaving


@pytest.mark.parametrize("peers", [{"west": {}}, {"west": {}, "east": {"import_into": ["other"]}}])
@pytest.mark.parametrize("lost", [False, True])
def test_a_peer_that_is_gone_from_the_configuration_is_withdrawn_at_once(bench, peers, lost):
    it = bench(east={}, west={})
    it.sync(*HUNDRED)
    it.sync("z", peer="west")
    if lost:
        it.lost()
    assert it.configure(**peers) == frozenset()
    assert len(it.work()) == 100
    assert (it.standing("east"), it.standing("west")) == ([], ["z"])
    assert it.offer("a") is not None
    assert it.reconciler.orphans() == ()


def test_a_peer_that_is_gone_while_a_write_is_in_flight_leaves_nothing(bench):
    it = bench()
    it.begin()
    it.offer("a")
    (change,) = it.reconciler.plan(it.now)
    it.configure(west={})
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.APPLIED)], it.now)
    assert it.work() == ["-a"]


def test_a_peer_that_is_gone_before_the_registry_was_listed_is_withdrawn_all_the_same(bench):
    it = bench()
    it.sync("a")
    it.reconciler = type(it.reconciler)("main", it.config)
    it.configure(west={})
    it.start()
    assert it.work() == ["-a"]


def test_a_peer_that_comes_back_into_the_configuration_is_taken_again(bench):
    it = bench()
    it.sync("a")
    it.configure(west={})
    it.work()
    it.configure(east={})
    it.sync("a")
    assert it.standing() == ["a"]


def test_changed_patterns_and_networks_are_applied_to_what_was_offered(bench):
    it = bench(east={"accept": ["a*"], "allow_endpoints": ["127.0.0.0/8"]})
    it.begin()
    local = (Endpoint(address="127.0.0.1", port=80),)
    it.offer("a")
    it.offer("ab", endpoints=local)
    assert it.offer("b") is not None
    it.complete()
    it.work()
    assert it.configure(east={"accept": ["*b"]}) == frozenset()
    assert it.work() == ["+b", "-a", "-ab"]
    assert "allow_endpoints" in it.status().rejected["ab"]
    it.configure(east={"accept": ["a*"], "allow_endpoints": ["127.0.0.0/8"]})
    assert it.work() == ["+a", "+ab", "-b"]


def test_a_reload_judges_what_a_lost_peer_offered(bench):
    it = bench()
    it.sync("a", "b")
    it.lost()
    it.configure(east={"accept": ["a"]})
    assert it.work() == ["-b"]


def test_our_own_new_domain_is_applied_to_what_was_offered(bench, config):
    it = bench()
    it.sync("orders.shop.example", "b.example")
    it.reconciler.configure(config(domain="shop.example", east={}), it.now)
    assert it.work() == ["-orders.shop.example"]


def test_a_lower_quota_withdraws_the_latest(bench):
    it = bench()
    it.sync(*"abcd")
    it.configure(east={"max_services": 2})
    assert it.work() == ["-c", "-d"]
    it.configure(east={"max_services": 3})
    assert len(it.work()) == 1


def test_a_reload_that_might_let_pass_what_was_not_kept_asks_for_the_catalog_again(bench):
    it = bench(east={"max_message_bytes": 2000}, west={})
    it.begin()
    it.offer("a", size=3000)
    assert it.configure(east={"max_message_bytes": 2000}, west={}) == frozenset()
    assert it.configure(east={"max_message_bytes": 4000}, west={}) == {"east"}


def test_an_unchanged_configuration_changes_nothing(bench):
    it = bench()
    it.sync(*"abc")
    it.configure(east={})
    assert it.work() == []


def test_leaving_withdraws_everything_without_a_brake_and_forgets_it(bench):
    it = bench(east={}, west={})
    it.sync(*HUNDRED)
    it.sync("z", peer="west")
    it.lost()
    assert it.reconciler.leave("east", it.now) == 100
    assert len(it.work()) == 100
    status = it.status()
    assert (status.offered, status.standing, status.lost_since) == (0, 0, None)
    assert it.standing("west") == ["z"]
    it.later(days=3)
    assert it.work() == []
    it.adopt()
    assert it.work() == []


def test_leaving_while_a_write_is_in_flight_leaves_nothing(bench):
    it = bench()
    it.begin()
    it.offer("a")
    (change,) = it.reconciler.plan(it.now)
    it.reconciler.leave("east", it.now)
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.APPLIED)], it.now)
    assert it.work() == ["-a"]


def test_entries_of_a_peer_that_is_not_configured_are_listed_and_only_leaving_removes_them(bench):
    it = bench()
    it.sync("a", "b")
    it.config = bench(west={}).config
    it.restart("a")
    it.later(days=100)
    assert it.work() == []
    assert [entry.key for entry in it.reconciler.orphans()] == [ImportKey("east", "a"), ImportKey("east", "b")]
    assert it.status("east").standing == 2
    it.sync("b", peer="west")
    assert it.standing("west") == ["b-west"]
    assert it.reconciler.leave("east", it.now) == 2
    assert it.reconciler.orphans() == ()
    assert it.work() == ["-a", "-b"]


def test_orphans_whose_peer_is_configured_again_are_kept_as_those_of_a_lost_peer(bench):
    it = bench()
    it.sync("a", "b")
    it.config = bench(west={}).config
    it.restart()
    it.later(hours=1)
    it.configure(east={"retain": "1h"})
    assert it.reconciler.orphans() == ()
    assert it.status().lost_since == it.now
    it.later(minutes=59)
    assert it.work() == []
    it.later(minutes=1)
    assert it.work() == ["-a", "-b"]
