"""From offers to changes: what is written and removed when, and what the stream is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hamlet_core.api import Endpoint, ImportKey, Outcome, StandingImport, Status
from hamlet_core.imports import State, reconciler, table

# Before it can know what it would overwrite


def test_nothing_is_written_before_the_registry_and_the_local_names_are_known(bench):
    it = bench(ready=False)
    it.catalog("a")
    assert (it.plan(), it.settled("a").state) == ([], State.PENDING)
    it.reconciler.set_local_names(frozenset())
    assert (it.plan(), it.settled("a").state) == ([], State.PENDING)
    assert it.reconciler.next_due(it.now) is None
    assert it.reconciler.marks(it.now) == []
    it.adopt()
    assert it.work() == ["+a"]
    assert it.settled("a").state is State.APPLIED


def test_the_other_order_of_knowing_is_as_good(bench):
    it = bench(ready=False)
    it.adopt()
    it.catalog("a")
    assert it.plan() == []
    it.reconciler.set_local_names({"B"})
    assert it.work() == ["+a"]


def test_an_offer_made_before_the_local_names_are_known_is_judged_by_them(bench):
    it = bench(ready=False)
    it.begin()
    assert it.offer("a") is None
    it.start("A")
    assert it.work() == []
    assert it.settled("a").state is State.REJECTED
    assert "is the name of a local service" in it.settled("a").reason


def test_an_offer_that_policy_refuses_is_refused_even_before_all_is_known(bench):
    it = bench(ready=False, east={"accept": ["b*"]})
    it.begin()
    assert "add it to peers.east.accept" in it.offer("a")


def test_a_catalog_that_was_complete_before_the_listing_removes_what_it_lacks(bench):
    it = bench()
    it.sync(*"abcde")
    it.reconciler = type(it.reconciler)("main", it.config)
    it.catalog(*"abcd")
    it.start()
    assert it.work() == ["-e"]


# Offers and withdrawals


def test_an_offer_is_written_and_a_change_is_written_again(bench):
    it = bench()
    it.begin()
    assert it.offer("a", 1) is None
    assert it.settled("a").state is State.PENDING
    assert it.plan() == ["+a"]
    assert it.settled("a").state is State.APPLIED
    it.offer("a", 2)
    assert it.settled("a").state is State.PENDING
    assert it.plan() == ["+a"]


def test_an_offer_that_changes_nothing_writes_nothing(bench):
    it = bench()
    it.sync("a")
    it.catalog("a")
    assert it.plan() == []
    assert it.settled("a").state is State.APPLIED


def test_a_deletion_by_the_owner_applies_at_once_before_the_catalog_is_complete(bench):
    it = bench()
    it.sync(*"abc")
    it.begin()
    it.withdraw("a")
    assert it.settled("a").state is State.PENDING
    assert it.plan() == ["-a"]
    assert it.settled("a").state is State.APPLIED


def test_a_deletion_of_what_stands_from_before_a_restart_applies_at_once(bench):
    it = bench()
    it.sync(*"abc")
    it.restart()
    it.begin()
    it.withdraw("a")
    assert it.work() == ["-a"]


def test_a_deletion_of_an_unknown_service_is_fine(bench):
    it = bench()
    it.begin()
    it.withdraw("nothing")
    assert it.settled("nothing").state is State.APPLIED
    assert it.plan() == []


def test_a_deletion_of_what_was_not_written_yet_leaves_nothing(bench):
    it = bench()
    it.begin()
    it.offer("a")
    it.withdraw("a")
    assert it.work() == []


def test_a_service_deleted_and_offered_again_before_it_was_removed_stays(bench):
    it = bench()
    it.sync("a")
    it.withdraw("a")
    it.offer("a")
    assert it.work() == []
    assert it.settled("a").state is State.APPLIED


def test_a_service_deleted_and_offered_anew_while_its_removal_is_in_flight_is_written_after_that(bench):
    it = bench()
    it.sync("a")
    it.withdraw("a")
    (change,) = it.reconciler.plan(it.now)
    it.offer("a")
    assert it.reconciler.plan(it.now) == ()
    assert it.settled("a").state is State.PENDING
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.APPLIED)], it.now)
    assert it.work() == ["+a"]


def test_a_change_of_what_is_in_flight_waits_for_the_outcome(bench):
    it = bench()
    it.begin()
    it.offer("a", 1)
    (change,) = it.reconciler.plan(it.now)
    it.offer("a", 2)
    assert it.reconciler.plan(it.now) == ()
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.APPLIED)], it.now)
    assert it.settled("a").state is State.PENDING
    assert it.work() == ["+a"]
    assert it.settled("a").state is State.APPLIED


def test_a_deletion_of_what_is_in_flight_removes_what_landed(bench):
    it = bench()
    it.begin()
    it.offer("a")
    (change,) = it.reconciler.plan(it.now)
    it.withdraw("a")
    assert it.settled("a").state is State.PENDING
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.APPLIED)], it.now)
    assert it.work() == ["-a"]


def test_an_outcome_that_nobody_waits_for_is_ignored(bench):
    it = bench()
    it.sync("a")
    it.reconciler.record([Outcome(key=ImportKey("east", "a"), status=Status.REJECTED)], it.now)
    it.reconciler.record([Outcome(key=ImportKey("nobody", "x"), status=Status.APPLIED)], it.now)
    assert it.settled("a").state is State.APPLIED


def test_a_service_whose_fqdn_changes_is_removed_and_then_written_under_the_new_one(bench):
    it = bench()
    it.begin()
    it.offer("a", fqdn="old.example")
    it.work()
    it.offer("a", fqdn="new.example")
    assert (it.plan(), it.plan(), it.plan()) == (["-old.example"], ["+new.example"], [])


def test_a_name_handed_from_one_service_to_another_is_free_before_it_is_written(bench):
    it = bench()
    it.begin()
    it.offer("orders-1", fqdn="orders.example")
    it.work()
    it.withdraw("orders-1")
    assert it.offer("orders-2", fqdn="orders.example") is None
    assert (it.plan(), it.plan()) == (["-orders.example"], ["+orders.example"])


def test_a_plan_can_be_asked_for_some_peers_or_keys_alone(bench):
    it = bench(east={}, west={})
    it.catalog("a", "b")
    it.catalog("c", peer="west")

    def planned(*only):
        return sorted(change.key.name for change in it.reconciler.plan(it.now, only))

    assert planned("nobody") == []
    assert planned(ImportKey("east", "b")) == ["b"]
    assert planned("west") == ["c"]
    assert [change.key.name for change in it.reconciler.plan(it.now)] == ["a"]


def test_a_peer_that_is_not_configured_or_not_for_this_registry_is_refused(bench):
    it = bench(east={"import_into": ["other"]})
    it.begin()
    assert it.offer("a") == "the registry main takes nothing from east: see peers.east.import_into"
    assert it.offer("a", peer="north") is not None
    it.withdraw("a", peer="north")
    it.complete("north")
    it.lost("north")
    assert it.reconciler.refuse("north", "a", "why", it.now) == "why"
    assert not it.reconciler.takes("east")
    assert it.work() == []
    assert it.status("north").offered == 0
    assert it.settled("a", "north").state is State.APPLIED
    assert it.reconciler.confirm("north", it.now) == it.reconciler.leave("north", it.now) == 0


# Refusals


def test_a_message_that_is_not_well_formed_leaves_what_stands_as_it_was(bench):
    it = bench()
    it.sync("a")
    reason = it.offer("a", endpoints=(Endpoint(address="192.0.2.1", port=0),))
    assert reason == "endpoints[0].port 0 is outside 1 to 65535"
    assert it.settled("a").state is State.REJECTED
    assert it.settled("a").reason == reason
    assert it.work() == []
    assert it.standing() == ["a"]
    assert it.status().rejected == {"a": reason}


def test_all_that_is_wrong_is_said_at_once(bench):
    it = bench()
    it.begin()
    assert it.offer("a", instances=(), endpoints=()).startswith("instances is empty")
    assert "; " in it.offer("a", fqdn="a b", endpoints=())


def test_a_refused_message_is_no_absence_when_the_catalog_is_complete(bench):
    it = bench(east={"brake": {"share": 1}})
    it.sync("a", "b")
    it.begin()
    it.offer("a")
    it.reconciler.refuse("east", "b", "cannot be decoded", it.now)
    it.complete()
    assert it.work() == []
    assert it.status().rejected == {"b": "cannot be decoded"}


def test_a_refused_message_about_what_stands_from_before_a_restart_is_no_absence(bench):
    it = bench(east={"brake": {"share": 1}})
    it.sync("a", "b")
    it.restart()
    it.begin()
    it.offer("a")
    it.reconciler.refuse("east", "b", "cannot be decoded", it.now)
    it.complete()
    assert it.work() == []


def test_a_good_offer_ends_the_refusal(bench):
    it = bench()
    it.begin()
    it.reconciler.refuse("east", "a", "cannot be decoded", it.now)
    it.offer("a")
    assert it.work() == ["+a"]
    assert it.status().rejected == {}


def test_a_message_over_the_limit_is_refused_with_both_sizes(bench):
    it = bench(east={"max_message_bytes": 2000})
    it.begin()
    assert it.offer("a", size=2000) is None
    assert it.offer("b", size=2001) == (
        "the message about 'b' has 2001 bytes and 2000 are allowed: raise peers.east.max_message_bytes"
    )
    assert it.work() == ["+a"]


def test_a_service_that_our_policy_refuses_is_withdrawn(bench):
    it = bench()
    it.sync("a", "b")
    reason = it.offer("a", endpoints=(Endpoint(address="127.0.0.1", port=80),))
    assert "add 127.0.0.1/32 to peers.east.allow_endpoints" in reason
    assert it.settled("a").reason == reason
    assert it.work() == ["-a"]
    assert it.settled("a").state is State.REJECTED
    assert it.status().rejected == {"a": reason}


def test_refusals_without_number_are_counted_and_not_kept(bench):
    it = bench()
    it.begin()
    for number in range(1500):
        it.reconciler.refuse("east", f"s{number}", "cannot be decoded", it.now)
    status = it.status()
    assert len(status.rejected) == 1000
    assert status.unlisted == 500
    assert status.offered == 1500
    it.begin()
    assert (it.status().rejected, it.status().unlisted) == ({}, 0)


def test_a_name_that_is_no_name_is_listed_in_a_form_that_is_safe(bench):
    it = bench()
    it.begin()
    it.offer("a\x1b[2J", fqdn="a")
    it.offer("b" * 5000, fqdn="b")
    assert all(name.isprintable() and len(name) < 100 for name in it.status().rejected)


# Quota


def test_a_peer_over_its_quota_is_refused_and_the_rest_goes_on(bench):
    it = bench(east={"max_services": 2})
    it.begin()
    assert (it.offer("a"), it.offer("b")) == (None, None)
    reason = it.offer("c")
    assert reason == "east already has the 2 services here that it may have: raise peers.east.max_services"
    assert it.settled("c").reason == reason
    assert it.offer("a", 2) is None
    assert it.work() == ["+a", "+b"]


def test_room_that_gets_free_goes_to_the_first_that_was_refused(bench):
    it = bench(east={"max_services": 2})
    it.begin()
    for name in "abcd":
        it.offer(name)
    it.work()
    it.withdraw("a")
    assert sorted(it.work()) == ["+c", "-a"]
    assert it.settled("c").state is State.APPLIED
    assert it.settled("d").state is State.REJECTED


def test_what_stands_has_a_place_before_what_is_new(bench):
    it = bench(east={"max_services": 2})
    it.sync("a", "b")
    it.restart()
    it.begin()
    assert it.offer("c") is not None
    assert (it.offer("a"), it.offer("b")) == (None, None)
    it.complete()
    assert it.work() == []


def test_the_quota_is_on_what_is_accepted(bench):
    it = bench(east={"max_services": 2, "accept": ["a*"]})
    it.begin()
    for number in range(20):
        assert it.offer(f"b{number}") is not None
    assert it.offer("a") is None
    assert it.offer("aa") is None


def test_what_a_peer_can_make_us_keep_has_a_bound(bench):
    it = bench(east={"max_services": 2, "accept": ["a*"]})
    it.begin()
    for number in range(3000):
        it.offer(f"b{number}")
    offers = it.reconciler._table.peers["east"]
    assert len(offers.services) == len(offers.declined) == 2
    assert len(offers.refused) == 1000
    assert len(it.reconciler._table.names._waiting) <= 4


def test_a_quota_of_none_takes_none(bench):
    it = bench(east={"max_services": 0})
    it.begin()
    assert "raise peers.east.max_services" in it.offer("a")
    it.complete()
    assert it.work() == []


def test_before_all_is_known_offers_are_bounded_too(bench):
    it = bench(ready=False, east={"max_services": 2})
    it.begin()
    answers = [it.offer(f"s{number}") for number in range(10)]
    assert answers[0] is None
    assert answers[9] is not None
    it.start()
    assert len(it.work()) == 2


# Outcomes


def test_what_the_registry_rejects_is_reported_and_left_until_it_changes(bench):
    it = bench()
    it.begin()
    it.offer("a", 1)
    assert it.answer(Status.REJECTED, "an entry of someone else is in the way") == ["+a"]
    settled = it.settled("a")
    assert settled.state is State.REJECTED
    assert settled.reason == "the registry main rejected it: an entry of someone else is in the way"
    assert it.status().rejected == {"a": settled.reason}
    it.later(hours=5)
    assert it.work() == []
    it.offer("a", 1)
    assert it.settled("a").state is State.REJECTED
    assert it.work() == []
    it.adopt()
    assert it.work() == []
    it.offer("a", 2)
    assert it.settled("a").state is State.PENDING
    assert it.work() == ["+a"]
    assert it.status().rejected == {}


def test_a_reload_tries_once_more_what_the_registry_rejected(bench):
    it = bench()
    it.begin()
    it.offer("a")
    it.answer(Status.REJECTED)
    it.configure(east={})
    assert it.answer(Status.REJECTED) == ["+a"]
    assert it.work() == []


def test_the_last_form_that_the_registry_took_stays_when_it_rejects_the_next(bench):
    it = bench()
    it.sync("a")
    it.offer("a", 2)
    it.answer(Status.REJECTED)
    assert it.work() == []
    assert it.standing() == ["a"]
    it.withdraw("a")
    assert it.work() == ["-a"]


def test_nothing_is_removed_of_what_was_rejected_at_once(bench):
    it = bench()
    it.begin()
    it.offer("a")
    it.answer(Status.REJECTED)
    it.withdraw("a")
    assert it.work() == []
    assert it.settled("a").state is State.APPLIED


def test_a_removal_that_the_registry_rejects_is_reported(bench):
    it = bench()
    it.sync("a", "b")
    it.withdraw("a")
    it.answer(Status.REJECTED, "no right to")
    assert it.settled("a").state is State.REJECTED
    assert "no right to" in it.status().rejected["a"]
    assert it.work() == []


def test_what_may_succeed_later_is_tried_again_with_growing_delays(bench):
    it = bench()
    it.begin()
    it.offer("a")
    delays = []
    for _ in range(10):
        assert it.answer(Status.RETRY, "busy") == ["+a"]
        settled = it.settled("a")
        assert (settled.state, settled.reason) == (State.RETRY, "the registry main could not take it yet: busy")
        assert it.answer(Status.RETRY) == []
        due = it.reconciler.next_due(it.now)
        delays.append((due - it.now).total_seconds())
        it.now = due
    assert all(1 <= delay <= 60 for delay in delays)
    assert max(delays[:3]) <= 8 < min(delays[-3:])
    assert it.plan() == ["+a"]
    assert it.reconciler.next_due(it.now) is None


def test_another_change_of_what_waits_for_a_retry_is_tried_at_once(bench):
    it = bench()
    it.begin()
    it.offer("a", 1)
    it.answer(Status.RETRY)
    it.offer("a", 1)
    assert it.plan() == []
    it.offer("a", 2)
    assert it.plan() == ["+a"]


def test_a_write_that_may_have_landed_is_removed_when_it_is_withdrawn(bench):
    it = bench()
    it.begin()
    it.offer("a")
    (change,) = it.reconciler.plan(it.now)
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.RETRY, reason="timed out")], it.now)
    it.withdraw("a")
    assert it.work() == ["-a"]
    assert it.entries == {}


def test_a_removal_that_may_have_landed_is_written_again_when_it_is_wanted_again(bench):
    it = bench()
    it.sync("a")
    it.withdraw("a")
    (change,) = it.reconciler.plan(it.now)
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.RETRY, reason="timed out")], it.now)
    it.offer("a")
    assert it.work() == ["+a"]
    assert it.standing() == ["a"]


def test_a_listing_settles_what_a_timeout_left_in_doubt(bench):
    it = bench()
    it.begin()
    it.offer("a")
    (change,) = it.reconciler.plan(it.now)
    it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.RETRY, reason="timed out")], it.now)
    it.adopt()
    assert it.settled("a").state is State.APPLIED
    it.later(minutes=2)
    assert it.work() == []


def test_a_name_whose_former_entry_cannot_be_removed_makes_the_new_one_wait_with_the_reason(bench):
    it = bench()
    it.begin()
    it.offer("orders-1", fqdn="orders.example")
    it.work()
    it.withdraw("orders-1")
    it.offer("orders-2", fqdn="orders.example")
    assert it.answer(Status.RETRY, "busy") == ["-orders.example"]
    settled = it.settled("orders-2")
    assert settled.state is State.RETRY
    assert settled.reason == ("its local name still stands for 'orders-1' of east, not removed yet: busy")
    it.now = it.reconciler.next_due(it.now)
    assert it.work() == ["-orders.example", "+orders.example"]


# Drift


def test_an_entry_that_vanished_or_was_edited_is_written_again(bench):
    it = bench()
    it.sync("a", "b", "c")
    del it.entries[ImportKey("east", "a")]
    key = ImportKey("east", "b")
    it.entries[key] = StandingImport(key=key, local_name="b", digest="")
    it.adopt()
    assert it.work() == ["+a", "+b"]


def test_a_change_in_flight_while_the_registry_is_listed_is_left_to_its_outcome(bench):
    it = bench()
    it.sync("a")
    it.offer("a", 2)
    it.offer("b")
    changes = it.reconciler.plan(it.now)
    it.adopt()
    assert it.reconciler.plan(it.now) == ()
    for change in changes:
        it.apply(change)
    it.reconciler.record([Outcome(key=change.key, status=Status.APPLIED) for change in changes], it.now)
    assert it.work() == []
    assert it.settled("b").state is State.APPLIED


def test_an_entry_that_appears_and_is_not_in_a_complete_catalog_is_removed(bench):
    it = bench()
    it.sync(*"abcde")
    key = ImportKey("east", "x")
    it.entries[key] = StandingImport(key=key, local_name="x", digest="1")
    it.adopt()
    assert it.work() == ["-x"]


def test_of_two_entries_with_one_key_the_misnamed_one_goes(bench):
    it = bench()
    it.sync("a")
    entry = it.entries[ImportKey("east", "a")]
    copy = StandingImport(key=entry.key, local_name="z", digest=entry.digest)
    for listing in ([copy, entry], [entry, copy]):
        it.reconciler.adopt(listing, it.now)
        assert it.work() == ["-z", "+a"]


def test_an_entry_of_another_peer_under_our_name_makes_us_take_the_alias(bench):
    it = bench(east={}, west={})
    it.sync("a")
    key = ImportKey("west", "a")
    it.entries = {key: StandingImport(key=key, local_name="a", digest="1")}
    it.adopt()
    assert it.work() == ["+a-east"]


# Cost


def test_one_change_among_10000_touches_one_key(bench, monkeypatch):
    it = bench()
    it.sync(*(f"s{number}" for number in range(10_000)))
    assert len(it.entries) == 10_000
    asked, judged = [], []
    plan, accept, validate = table.plan, table.accept, reconciler.validate
    monkeypatch.setattr(table, "plan", lambda *tables: asked.append(tables) or plan(*tables))
    monkeypatch.setattr(table, "accept", lambda *a, **k: judged.append(a) or accept(*a, **k))
    monkeypatch.setattr(reconciler, "validate", lambda *a: judged.append(a) or validate(*a))
    it.offer("s77", 2)
    assert it.plan() == ["+s77"]
    assert it.plan() == []
    assert {key for tables in asked for table in tables for key in table} == {ImportKey("east", "s77")}
    assert len(judged) == 2


def test_the_same_catalog_again_judges_and_plans_nothing(bench, monkeypatch):
    it = bench()
    names = [f"s{number}" for number in range(500)]
    it.sync(*names)
    judged = []
    monkeypatch.setattr(table, "accept", lambda *a, **k: judged.append(a))
    monkeypatch.setattr(reconciler, "validate", lambda *a: judged.append(a))
    it.catalog(*names)
    assert it.plan() == []
    assert judged == []


# Status


def test_the_status_counts_what_is_offered_accepted_applied_and_pending(bench):
    it = bench(east={"accept": ["a*"]})
    it.begin()
    for name in ("a1", "a2", "b"):
        it.offer(name)
    it.reconciler.refuse("east", "c", "cannot be decoded", it.now)
    status = it.status()
    assert (status.offered, status.accepted, status.applied, status.standing, status.pending) == (4, 2, 0, 0, 2)
    assert (status.live, status.complete, status.lost_since) == (True, False, None)
    it.work()
    it.complete()
    it.offer("a1", 2)
    status = it.status()
    assert (status.accepted, status.applied, status.standing, status.pending) == (2, 1, 2, 1)
    assert status.complete
    assert sorted(status.rejected) == ["b", "c"]
    it.lost()
    it.later(seconds=1)
    assert it.status().lost_since == it.now - timedelta(seconds=1)


@pytest.mark.parametrize("answer", [Status.RETRY, Status.REJECTED, Status.APPLIED])
def test_what_is_in_flight_is_pending_whatever_became_of_it_before(bench, answer):
    it = bench()
    it.begin()
    it.offer("a", 1)
    it.answer(answer)
    it.offer("a", 2)
    it.reconciler.plan(it.now)
    assert it.settled("a").state is State.PENDING
    assert it.status().pending == 1
