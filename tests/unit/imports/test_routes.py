"""Where a gateway leads calls out: what is written when, what it is asked for, and what its answers change."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from hamlet_core.api import (
    Endpoint,
    ImportedService,
    ImportKey,
    Outcome,
    Refused,
    RemoveImport,
    Route,
    Status,
    WriteImport,
)
from hamlet_core.config.driven import Egress
from hamlet_core.config.model import Config
from hamlet_core.imports import Reconciler
from hamlet_core.imports.routes import Routes
from hamlet_core.imports.status import State
from hamlet_core.imports.table import BY_GATEWAY


def led(config: Config) -> Config:
    return config.model_copy(update={"egress": Egress(kind="memory")})


def way(address: str = "192.0.2.9", **others) -> Route:
    return Route(endpoints={"http": (Endpoint(address=address, port=20_000),)}, originates_tls=True, **others)


def key(name: str, peer: str = "east") -> ImportKey:
    return ImportKey(peer, name)


class Gateway:
    """A gateway beside a bench; `answers` are by name where they are special, `asked` and `keep` the last call's."""

    def __init__(self, it) -> None:
        self.it = it
        self.answers: dict[str, Route | Refused] = {}
        self.asked: list[str] = []
        self.keep: set[str] = set()

    def begin(self):
        found = self.it.reconciler.to_route()
        assert found is not None
        self.asked, self.keep = sorted(k.name for k in found[0]), {k.name for k in found[1]}
        return found[0]

    def end(self, asked) -> None:
        self.it.reconciler.routed(asked, {each: self.answers.get(each.name, way()) for each in asked})

    def answer(self) -> list[str]:
        self.end(self.begin())
        return self.asked

    def work(self) -> list[str]:
        """Ask and write until nothing is left to do; what was written, in words."""
        said = []
        for _ in range(20):
            if self.it.reconciler.routes_due:
                self.answer()
            elif not (now := self.it.plan()):
                return said
            else:
                said += now
        raise AssertionError("it never comes to rest")


@pytest.fixture
def it(bench, config):
    made = bench(ready=False)
    made.config = led(config(east={}))
    made.reconciler = Reconciler("main", made.config)
    made.start()
    return made


@pytest.fixture
def gateway(it):
    return Gateway(it)


# --- before anything is written ----------------------------------------------------------------------


def test_without_a_gateway_nothing_is_asked_and_imports_have_no_route(bench):
    it = bench(east={})
    it.sync("a")
    assert not it.reconciler.routes_due
    it.offer("b")
    assert not it.reconciler.routes_due
    (change,) = it.reconciler.plan(it.now)
    assert change.service.route is None


def test_nothing_is_written_before_the_gateway_has_said_how_it_is_reached(it, gateway):
    it.catalog("a", "b")
    assert it.reconciler.routes_due
    assert it.plan() == []
    assert it.settled("a").state is State.PENDING
    assert "waits for the gateway" in it.settled("a").reason
    assert gateway.answer() == ["a", "b"]
    assert not it.reconciler.routes_due
    (first, second) = it.reconciler.plan(it.now)
    assert [each.service.route for each in (first, second)] == [way(), way()]


def test_nothing_is_asked_before_it_is_known_what_stands(it):
    it.reconciler = Reconciler("main", it.config)
    it.catalog("a")
    assert not it.reconciler.routes_due
    assert it.reconciler.to_route() is None
    it.start()
    assert it.reconciler.routes_due
    assert it.reconciler.to_route()[0].keys() == {key("a")}


def test_what_is_offered_before_the_listing_is_routed_and_written_after_it(it, gateway):
    it.reconciler = Reconciler("main", it.config)
    it.catalog("a")
    it.start()
    assert gateway.work() == ["+a"]


def test_the_route_is_part_of_the_digest(it, gateway):
    it.catalog("a")
    gateway.work()
    assert it.entries[key("a")].digest == written(it, "a", way()).digest
    assert written(it, "a", way()).digest != written(it, "a", way("192.0.2.10")).digest
    assert written(it, "a", way()).digest != written(it, "a", None).digest


def written(it, name, route):
    found = it.reconciler.to_route()[0][key(name)].service
    return ImportedService(peer="east", local_name=name, service=found, route=route)


@pytest.mark.parametrize(
    "other", [way("192.0.2.10"), way(settings={"mode": "x"}), Route(endpoints=way().endpoints, originates_tls=False)]
)
def test_another_route_is_written(it, gateway, other):
    it.catalog("a")
    gateway.work()
    gateway.answers["a"] = other
    it.reconciler.not_routed()
    assert gateway.work() == ["+a"]
    assert it.entries[key("a")].digest == written(it, "a", other).digest


def test_the_same_route_is_not_written_again(it, gateway):
    it.catalog("a")
    gateway.work()
    it.reconciler.not_routed()
    assert gateway.work() == []


# --- what is asked -----------------------------------------------------------------------------------


def test_a_removal_goes_to_the_registry_before_its_route_goes(it, gateway):
    it.catalog("a", "b")
    gateway.work()
    it.withdraw("a")
    assert gateway.answer() == ["b"]
    assert gateway.keep == {"a"}, "whoever calls it still finds the way"
    assert it.plan() == ["-a"]
    assert it.reconciler.routes_due
    gateway.answer()
    assert (gateway.asked, gateway.keep) == (["b"], set())


def test_a_removal_needs_no_answer_of_the_gateway(it, gateway):
    it.catalog("a", "b", "c")
    gateway.work()
    it.withdraw("a")
    it.offer("b", 2)
    gateway.begin()
    it.reconciler.not_routed()
    assert it.plan() == ["-a"]
    assert it.settled("a").state is State.APPLIED
    assert it.settled("b").state is State.PENDING
    assert it.standing() == ["b", "c"], "what stands of it stays meanwhile"
    assert gateway.work() == ["+b"]


def test_after_a_restart_what_stands_is_kept_and_not_written_again(it, gateway):
    it.catalog("a", "b")
    gateway.work()
    it.restart()
    gateway.answer()
    assert (gateway.asked, gateway.keep) == ([], {"a", "b"})
    it.begin()
    it.offer("a")
    gateway.answer()
    assert (gateway.asked, gateway.keep) == (["a"], {"b"})
    assert it.plan() == []
    assert it.settled("a").state is State.APPLIED
    it.offer("b")
    it.complete()
    assert gateway.work() == []


def test_after_a_restart_another_route_is_written(it, gateway):
    it.catalog("a")
    gateway.work()
    it.restart()
    gateway.answers["a"] = way("192.0.2.10")
    it.catalog("a")
    assert gateway.work() == ["+a"]


def test_orphans_and_retained_entries_are_kept(it, gateway, config):
    it.catalog("a")
    gateway.work()
    it.config = led(config(north={}))
    it.restart()
    gateway.answer()
    assert gateway.keep == {"a"}
    it.reconciler.leave("east", it.now)
    assert it.plan() == ["-a"]
    gateway.answer()
    assert gateway.keep == set()


def test_an_entry_that_vanishes_from_the_registry_is_still_led_and_written_again(it, gateway):
    it.catalog("a")
    gateway.work()
    it.entries.clear()
    it.holders.clear()
    it.adopt()
    assert gateway.work() == ["+a"]
    assert gateway.asked == ["a"]


# --- answers that come late --------------------------------------------------------------------------


def test_a_service_that_changes_while_the_gateway_is_asked_waits_for_an_answer_about_itself(it, gateway):
    it.catalog("a")
    asked = gateway.begin()
    it.offer("a", 2)
    gateway.end(asked)
    assert it.plan() == [], "the answer is about what it was"
    assert it.reconciler.routes_due
    assert gateway.work() == ["+a"]


def test_a_service_that_changes_back_while_the_gateway_is_asked_is_asked_about_again(it, gateway):
    it.catalog("a")
    gateway.work()
    it.offer("a", 2)
    asked = gateway.begin()
    it.offer("a")
    gateway.end(asked)
    gateway.answer()
    assert gateway.work() == []
    assert it.settled("a").state is State.APPLIED


def test_a_service_that_goes_while_the_gateway_is_asked_is_not_written(it, gateway):
    it.catalog("a")
    asked = gateway.begin()
    it.withdraw("a")
    gateway.end(asked)
    assert gateway.work() == []
    assert gateway.asked == []


def test_a_service_that_comes_back_while_its_route_goes_is_not_written_with_that(it, gateway):
    it.catalog("a")
    gateway.work()
    it.withdraw("a")
    assert it.plan() == ["-a"], "the gateway is out of reach meanwhile"
    asked = gateway.begin()
    assert (asked, gateway.keep) == ({}, set())
    it.offer("a")
    gateway.end(asked)
    assert it.reconciler.routes_due
    assert it.plan() == []
    gateway.answers["a"] = way("192.0.2.10")
    assert gateway.work() == ["+a"]


def test_a_gateway_that_does_not_answer_is_asked_again(it, gateway):
    it.catalog("a")
    gateway.begin()
    assert not it.reconciler.routes_due
    it.reconciler.not_routed()
    assert it.reconciler.routes_due
    assert gateway.work() == ["+a"]


# --- refusals ----------------------------------------------------------------------------------------


def test_what_the_gateway_refuses_is_rejected_and_the_owner_does_not_learn_why(it, gateway):
    gateway.answers["a"] = Refused("no port is free on 10.1.2.3")
    it.catalog("a", "b")
    assert gateway.work() == ["+b"]
    found = it.settled("a")
    assert (found.state, found.by_registry) == (State.REJECTED, True)
    assert "no port is free" in it.status().rejected["a"]
    assert it.offer("a") is None, "what is returned goes to the owner as it is"
    assert it.settled("a").state is State.REJECTED


def test_refusals_without_end_are_bounded_and_tell_the_owner_no_more(it, gateway, config):
    it.reconciler.configure(led(config(east={"max_services": 2})), it.now)
    names = [f"s{number}" for number in range(8)]
    gateway.answers = dict.fromkeys(names, Refused("no port is free on 10.1.2.3"))
    it.begin()
    for name in names:
        it.offer(name)
        gateway.work()
    states = [it.settled(name) for name in names]
    assert {each.state for each in states} == {State.REJECTED}
    told = {each.reason for each in states if not each.by_registry}
    assert told == {BY_GATEWAY}
    assert len(gateway.begin()) <= 4


def test_a_refused_service_is_asked_about_each_time_and_written_once_it_is_taken(it, gateway):
    gateway.answers["a"] = Refused("not now")
    it.catalog("a", "b")
    gateway.work()
    gateway.answers["a"] = Refused("still not")
    it.offer("c")
    gateway.work()
    assert gateway.asked == ["a", "b", "c"]
    assert "still not" in it.status().rejected["a"]
    del gateway.answers["a"]
    it.offer("d")
    assert sorted(gateway.work()) == ["+a", "+d"]
    assert it.settled("a").state is State.APPLIED


def test_a_service_that_changes_is_judged_anew_by_the_gateway(it, gateway):
    gateway.answers["a"] = Refused("it has no SANs")
    it.catalog("a")
    gateway.work()
    del gateway.answers["a"]
    it.offer("a", 2)
    assert it.settled("a").state is State.PENDING
    assert gateway.work() == ["+a"]


def test_what_stood_and_is_refused_now_goes(it, gateway):
    it.catalog("a")
    gateway.work()
    gateway.answers["a"] = Refused("it has no SANs")
    it.offer("a", 2)
    assert gateway.work() == ["-a"]
    assert it.standing() == []


def test_a_refused_service_that_is_withdrawn_is_forgotten(it, gateway):
    gateway.answers["a"] = Refused("no")
    it.catalog("a", "b")
    gateway.work()
    it.withdraw("a")
    assert it.settled("a").state is State.APPLIED
    it.offer("c")
    gateway.work()
    assert gateway.asked == ["b", "c"]


def test_what_the_registry_rejects_and_the_gateway_leads_is_tried_with_another_route(it, gateway):
    it.catalog("a")
    gateway.answer()
    it.answer(Status.REJECTED)
    assert it.settled("a").state is State.REJECTED
    gateway.answers["a"] = way("192.0.2.10")
    it.reconciler.not_routed()
    assert gateway.work() == ["+a"]


def test_a_write_that_is_tried_again_has_the_route_of_then(it, gateway):
    it.catalog("a")
    gateway.answer()
    it.answer(Status.RETRY)
    it.later(minutes=5)
    gateway.answers["a"] = way("192.0.2.10")
    it.reconciler.not_routed()
    gateway.answer()
    (change,) = it.reconciler.plan(it.now)
    assert change.service.route == way("192.0.2.10")
    it.reconciler.record([Outcome(key=change.key, status=Status.APPLIED)], it.now)


# --- names, rehearsals -------------------------------------------------------------------------------


def test_an_import_that_waits_for_its_route_keeps_its_name(it, gateway, config):
    it.config = led(config(east={}, north={}))
    it.reconciler = Reconciler("main", it.config)
    it.start()
    it.begin("east")
    it.begin("north")
    it.offer("e", fqdn="shop.example")
    it.offer("n", fqdn="shop.example", peer="north")
    assert sorted(gateway.work()) == ["+shop-north.example", "+shop.example"]
    assert it.entries[key("e")].local_name == "shop.example"


def test_a_rehearsal_shows_writes_that_the_gateway_has_yet_to_answer_for(it, gateway, config):
    it.reconciler.configure(led(config(east={"accept": ["a"]})), it.now)
    it.catalog("a")
    gateway.work()
    it.offer("b")
    changes = it.reconciler.rehearse(led(config(east={})), it.now)
    assert [(type(each), each.key.name) for each in changes] == [(WriteImport, "b")]
    assert it.reconciler.rehearse(led(config(east={"accept": ["c"]})), it.now) == (RemoveImport(key("a"), "a"),)
    assert not it.reconciler.routes_due
    assert it.plan() == []


def test_a_rehearsal_copies_no_answer_of_the_gateway(it, gateway, config):
    places = MappingProxyType({"http": (Endpoint(address="192.0.2.9", port=1),)})
    gateway.answers["a"] = Route(endpoints=places, originates_tls=True)
    it.catalog("a")
    gateway.work()
    assert len(it.reconciler.rehearse(led(config()), it.now)) == 1


def test_rows_say_where_workloads_reach_it(it, gateway):
    it.catalog("a")
    gateway.work()
    (row,) = it.reconciler.rows()
    assert row.reached_at == ("192.0.2.9:20000",)


# --- the table ---------------------------------------------------------------------------------------


def test_an_answer_is_about_one_content_and_lasts_until_it_is_not_asked_for_any_more(it, gateway, service):
    it.catalog("a")
    asked = gateway.begin()
    routes = Routes(required=True)
    assert routes.due
    assert routes.take(asked, {key("a"): way()}) == [key("a")]
    assert routes.take(asked, {key("a"): way()}) == []
    assert routes.of(key("a"), service("a")) == way()
    assert routes.of(key("a"), service("a", 2)) is None
    assert routes.of(key("b"), service("b")) is None
    assert routes.take({}, {}) == [key("a")]
    assert routes.of(key("a"), service("a")) is None


def test_where_no_gateway_is_asked_no_change_makes_an_answer_due():
    routes = Routes(required=False)
    routes.change()
    assert not routes.due
