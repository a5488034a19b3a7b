"""The compacted log: what a stream takes, what is kept for it, what is freed."""

from dataclasses import replace

import pytest

from hamlet_core.api import Endpoint, FederatedService, Instance
from hamlet_core.publish.catalog import Catalog, Entry, Payload, Subscription, SubscriptionEnded


def service(name: str, state: object = "") -> FederatedService:
    return FederatedService(
        name=name,
        fqdn=name,
        description=str(state),
        endpoints=(Endpoint(address="192.0.2.1", port=443),),
        instances=(Instance(id="http", protocol="HTTP"),),
    )


class Packing:
    """Packs, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, service: FederatedService) -> Payload:
        self.calls += 1
        packed = f"{service.name}={service.description}".encode()
        return Payload(v1alpha1=packed, v1alpha2=packed)


@pytest.fixture
def packing() -> Packing:
    return Packing()


@pytest.fixture
def catalog(packing: Packing) -> Catalog:
    return Catalog(packing)


def said(entries: list[Entry]) -> list[str]:
    """`a=1` for a service, `-a` for a removal."""
    return [each.payload.v1alpha2.decode() if each.payload else f"-{each.name}" for each in entries]


def drained(subscription: Subscription) -> list[str]:
    taken = subscription.take(1_000_000)
    assert subscription.caught_up
    assert subscription.lag == 0
    return said(taken)


def test_a_new_stream_walks_the_catalog_in_the_order_of_its_changes_and_then_the_changes(catalog):
    for name in "abc":
        catalog.put("all", service(name, 1))
    catalog.put("all", service("a", 2))
    subscription = catalog.subscribe("all")
    assert subscription.lag == subscription.size == 3
    assert said(subscription.take(2)) == ["b=1", "c=1"]
    assert not subscription.caught_up
    assert drained(subscription) == ["a=2"]
    catalog.put("all", service("b", 2))
    catalog.remove("all", "c")
    assert subscription.lag == 2
    assert drained(subscription) == ["b=2", "-c"]
    assert subscription.take(1) == []


def test_nothing_is_taken_where_there_is_no_room(catalog):
    catalog.put("all", service("a"))
    subscription = catalog.subscribe("all")
    assert subscription.take(0) == []
    assert subscription.lag == 1


def test_a_slow_stream_takes_only_the_latest_state_of_each_service(catalog):
    subscription = catalog.subscribe("all")
    for state in range(100):
        catalog.put("all", service("a", state))
        catalog.put("all", service("b", state))
    assert subscription.lag == 2
    assert drained(subscription) == ["a=99", "b=99"]


def test_an_equal_service_is_no_change(catalog, packing):
    catalog.put("all", service("a", 1))
    subscription = catalog.subscribe("all")
    drained(subscription)
    catalog.put("all", service("a", 1))
    catalog.remove("all", "never there")
    catalog.remove("unknown", "a")
    assert subscription.caught_up
    assert catalog.version == 1
    assert packing.calls == 1


def test_a_fresh_stream_is_spared_removals_from_before_its_time_and_told_those_since(catalog):
    early = catalog.subscribe("all")  # keeps the tombstones
    for name in "abc":
        catalog.put("all", service(name))
    catalog.remove("all", "a")
    fresh = catalog.subscribe("all")
    assert said(fresh.take(1)) == ["b="]
    catalog.remove("all", "b")
    assert drained(fresh) == ["c=", "-b"]
    assert catalog.stats().audiences[0].tombstones == 2
    assert drained(early) == ["c=", "-a", "-b"]
    assert catalog.stats().audiences[0].tombstones == 0


def test_the_walk_is_complete_only_when_a_service_that_changed_on_the_way_was_taken_too(catalog):
    for name in "abc":
        catalog.put("all", service(name, 1))
    subscription = catalog.subscribe("all")
    assert said(subscription.take(1)) == ["a=1"]
    catalog.put("all", service("b", 2))  # there all the time, but now behind the end the catalog had
    assert said(subscription.take(1)) == ["c=1"]
    assert subscription.start == 3
    assert not subscription.caught_up
    assert drained(subscription) == ["b=2"]


def test_an_empty_catalog_is_walked_at_once(catalog):
    assert catalog.subscribe("nobody").caught_up


def test_who_waits_is_told_of_each_change_in_its_audience_only(catalog):
    calls = []
    subscription = catalog.subscribe("all")
    subscription.on_change = lambda: calls.append(catalog.version)
    catalog.put("others", service("a"))
    assert calls == []
    catalog.put("all", service("a"))
    catalog.remove("all", "a")
    assert calls == [2, 3]
    subscription.close()
    catalog.put("all", service("a"))
    assert calls == [2, 3]


def test_payloads_are_shared_by_audiences_and_freed_with_the_last_one(catalog, packing):
    catalog.put("one", service("a", 1))
    catalog.put("two", service("a", 1))
    catalog.put("three", service("a", 2))
    (first,), (second,), (third,) = (catalog.subscribe(audience).take(1) for audience in ("one", "two", "three"))
    assert first.payload is second.payload
    assert first.payload != third.payload
    assert packing.calls == 2
    assert (catalog.stats().payloads, catalog.stats().payload_bytes) == (2, 2 * 2 * len("a=1"))
    catalog.remove("one", "a")
    assert catalog.stats().payloads == 2
    catalog.put("two", service("a", 2))
    assert (catalog.stats().payloads, catalog.stats().payload_bytes) == (1, 2 * len("a=1"))
    catalog.remove("two", "a")
    catalog.remove("three", "a")
    assert (catalog.stats().payloads, catalog.stats().payload_bytes) == (0, 0)


def test_a_service_that_cannot_be_packed_leaves_the_catalog_as_it_was():
    def refuse(service: FederatedService) -> Payload:
        raise ValueError(service.name)

    catalog = Catalog(refuse)
    with pytest.raises(ValueError, match="a"):
        catalog.put("all", service("a"))
    assert catalog.stats().payloads == 0
    assert catalog.subscribe("all").caught_up


def test_a_refused_service_is_sent_again_in_its_latest_state_unless_that_comes_anyway(catalog):
    for name in "abc":
        catalog.put("all", service(name, 1))
    subscription = catalog.subscribe("all")
    drained(subscription)
    assert said([subscription.current("a")]) == ["a=1"]
    catalog.put("all", service("a", 2))
    catalog.remove("all", "b")
    assert subscription.current("a") is None
    assert subscription.current("b") is None
    assert drained(subscription) == ["a=2", "-b"]
    assert said([subscription.current("a")]) == ["a=2"]
    assert said([subscription.current("b")]) == ["-b"], "its tombstone is gone, that it is gone is not"


def test_removals_are_forgotten_when_the_last_stream_has_passed_or_left(catalog):
    quick, slow, leaving = (catalog.subscribe("all") for _ in range(3))
    for name in "ab":
        catalog.put("all", service(name))
        catalog.remove("all", name)

    def tombstones() -> int:
        (stats,) = catalog.stats().audiences
        return stats.tombstones

    quick.take(10)
    assert tombstones() == 2
    slow.take(1)
    leaving.close()
    assert tombstones() == 1
    slow.close()
    assert tombstones() == 0
    assert catalog.stats().audiences[0].subscriptions == 1


class TestTheFloor:
    @pytest.fixture
    def catalog(self, packing: Packing) -> Catalog:
        return Catalog(packing, least_tombstones=3)

    def fill(self, catalog: Catalog, names: str) -> None:
        for name in names:
            catalog.put("all", service(name))

    def empty(self, catalog: Catalog, names: str) -> None:
        for name in names:
            catalog.remove("all", name)

    def test_a_stream_that_needed_a_dropped_removal_is_stale_and_the_others_are_not(self, catalog):
        self.fill(catalog, "abcd")
        silent, quick = catalog.subscribe("all"), catalog.subscribe("all")
        silent.take(1)
        told = []
        silent.on_change = lambda: told.append(silent.stale)
        for _ in range(2):
            drained(quick)
            self.empty(catalog, "abcd")
            drained(quick)
            self.fill(catalog, "efgh")
            self.empty(catalog, "efgh")
        assert silent.stale
        assert told[-1] is True
        assert not silent.caught_up
        with pytest.raises(SubscriptionEnded, match="stale"):
            silent.take(1)
        assert not quick.stale
        drained(quick)
        assert catalog.stats().audiences[0].tombstones == 0, "a stale stream keeps nothing"
        silent.close()

    def test_a_walk_that_began_after_the_removals_goes_on_when_they_are_dropped(self, catalog):
        silent = catalog.subscribe("all")
        self.fill(catalog, "abcdefgh")
        self.empty(catalog, "abc")
        fresh = catalog.subscribe("all")
        fresh.take(1)
        self.empty(catalog, "defgh")
        self.fill(catalog, "xy")
        self.empty(catalog, "xy")
        assert silent.stale
        assert not fresh.stale
        assert drained(fresh)[-2:] == ["-x", "-y"]

    def test_a_walk_on_the_way_is_stale_when_a_removal_since_its_start_is_dropped(self, catalog):
        self.fill(catalog, "ab")
        fresh = catalog.subscribe("all")
        assert said(fresh.take(1)) == ["a="]
        self.empty(catalog, "a")
        for name in "cdef":
            self.fill(catalog, name)
            self.empty(catalog, name)
        assert fresh.stale, "it has 'a', and nothing would tell it that 'a' is gone"

    def test_the_removal_of_everything_at_once_cuts_off_nobody_who_is_up_to_date(self, catalog):
        names = "abcdefghijklmnop"
        self.fill(catalog, names)
        subscription = catalog.subscribe("all")
        drained(subscription)
        self.empty(catalog, names)
        assert drained(subscription) == [f"-{name}" for name in names]


class TestAMove:
    def test_brings_the_difference_of_the_two_views_and_no_more(self, catalog):
        for name, old, new in [("same", 1, 1), ("other", 1, 2)]:
            catalog.put("old", service(name, old))
            catalog.put("new", service(name, new))
        catalog.put("old", service("left", 1))
        catalog.put("new", service("came", 1))
        subscription = catalog.subscribe("old")
        drained(subscription)
        told = []
        subscription.on_change = lambda: told.append(subscription.lag)
        subscription.move("new")
        assert told == [3]
        assert (subscription.lag, subscription.size, subscription.caught_up) == (3, 3, False)
        assert drained(subscription) == ["other=2", "came=1", "-left"]
        catalog.put("old", service("left", 2))
        assert subscription.caught_up
        catalog.put("new", service("same", 2))
        assert drained(subscription) == ["same=2"]

    def test_to_an_equal_view_says_nothing(self, catalog):
        catalog.put("old", service("a"))
        catalog.put("new", service("a"))
        subscription = catalog.subscribe("old")
        drained(subscription)
        subscription.on_change = lambda: pytest.fail("nothing is new")
        subscription.move("new")
        subscription.move("new")
        assert subscription.caught_up

    def test_in_the_middle_of_a_walk_loses_nothing_and_withdraws_nothing_never_sent(self, catalog):
        for name in ("a", "b", "c"):
            catalog.put("old", service(name))
        for name in ("a", "c", "d"):
            catalog.put("new", service(name))
        subscription = catalog.subscribe("old")
        assert said(subscription.take(1)) == ["a="]
        subscription.move("new")
        assert said(subscription.take(1)) == ["c="]
        assert drained(subscription) == ["d="]

    def test_withdraws_what_was_taken_before_it_changed_in_the_view_left(self, catalog):
        catalog.put("old", service("a", 1))
        subscription = catalog.subscribe("old")
        drained(subscription)
        catalog.put("old", service("a", 2))
        subscription.move("new")
        assert drained(subscription) == ["-a"]

    def test_while_another_is_still_being_taken_keeps_what_that_one_owed(self, catalog):
        for name in ("a", "b"):
            catalog.put("one", service(name))
        catalog.put("three", service("c"))
        subscription = catalog.subscribe("one")
        drained(subscription)
        subscription.move("two")
        subscription.move("three")
        assert drained(subscription) == ["c=", "-a", "-b"]

    def test_and_a_change_in_the_new_view_come_as_one(self, catalog):
        catalog.put("old", service("a"))
        catalog.put("new", service("b", 1))
        subscription = catalog.subscribe("old")
        drained(subscription)
        subscription.move("new")
        assert subscription.current("b") is None
        catalog.put("new", service("b", 2))
        catalog.put("new", service("a", 2))
        assert subscription.lag == 2
        assert drained(subscription) == ["b=2", "a=2"]

    def test_leaves_a_closed_or_stale_subscription_alone(self, packing):
        catalog = Catalog(packing, least_tombstones=0)
        closed, stale = catalog.subscribe("old"), catalog.subscribe("old")
        closed.close()
        for name in "ab":
            catalog.put("old", service(name))
            catalog.remove("old", name)
        assert stale.stale
        for subscription in (closed, stale):
            subscription.move("new")
            with pytest.raises(SubscriptionEnded):
                subscription.take(1)


class TestAnAudience:
    def test_is_replaced_by_its_difference(self, catalog, packing):
        for name in "ab":
            catalog.put("all", service(name, 1))
        subscription = catalog.subscribe("all")
        drained(subscription)
        catalog.replace("all", [service("b", 1), service("c", 1)])
        assert drained(subscription) == ["c=1", "-a"]
        assert packing.calls == 3

    def test_that_is_retired_stays_until_its_last_stream_has_moved(self, catalog):
        catalog.put("old", service("a"))
        subscription = catalog.subscribe("old")
        drained(subscription)
        catalog.retire("old")
        catalog.retire("unknown")
        catalog.put("new", service("b"))
        assert [each.audience for each in catalog.stats().audiences] == ["new", "old"]
        subscription.move("new")
        assert [each.audience for each in catalog.stats().audiences] == ["new"]
        assert catalog.stats().payloads == 1
        assert drained(subscription) == ["b=", "-a"]

    def test_that_is_retired_and_taken_up_again_is_as_good_as_before(self, catalog):
        catalog.put("all", service("a", 1))
        subscription = catalog.subscribe("all")
        drained(subscription)
        catalog.retire("all")
        catalog.replace("all", [service("a", 2)])
        assert drained(subscription) == ["a=2"]
        subscription.close()
        assert catalog.stats().audiences[0].services == 1

    def test_that_nobody_filled_is_forgotten_with_its_last_stream(self, catalog):
        catalog.subscribe("nobody").close()
        assert catalog.stats().audiences == ()


def test_a_change_that_no_version_can_say_is_none(catalog):
    catalog.put("all", service("a", 1))
    subscription = catalog.subscribe("all")
    drained(subscription)
    catalog.put("all", replace(service("a", 1), fqdn="not packed"))
    assert subscription.caught_up
    assert catalog.stats().payloads == 1
    catalog.remove("all", "a")
    assert catalog.stats().payloads == 0


def test_a_silent_stream_among_twenty_does_not_grow_the_log(catalog):
    services = 10_000
    for number in range(services):
        catalog.put("all", service(f"s{number}"))
    subscriptions = [catalog.subscribe("all") for _ in range(20)]
    silent, *reading = subscriptions
    for subscription in reading:
        subscription.take(services)
    longest = tombstones = 0
    taken = [0] * len(reading)
    for change in range(50_000):
        name = f"s{change * 7919 % services}"
        if change % 7:
            catalog.put("all", service(name, change))
        else:
            catalog.remove("all", name)
        if change % 500 == 0:
            for index, subscription in enumerate(reading):
                taken[index] += len(subscription.take(services))
            (stats,) = catalog.stats().audiences
            longest, tombstones = max(longest, stats.log_length), max(tombstones, stats.tombstones)
    for index, subscription in enumerate(reading):
        taken[index] += len(subscription.take(services))
        assert subscription.caught_up
    assert longest <= 2 * services + 64
    assert 1000 < tombstones <= services
    assert taken == [50_000] * len(reading)
    (stats,) = catalog.stats().audiences
    assert not silent.stale
    assert silent.lag == len(silent.take(2 * services)) == stats.services + stats.tombstones
    assert catalog.stats().audiences[0].tombstones == 0
