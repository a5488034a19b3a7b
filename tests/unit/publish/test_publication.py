"""From local services to views, change by change; and how two services settle who gets a name."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from hamlet_core.api import (
    Endpoint,
    FederatedService,
    HamletError,
    Ingress,
    LocalService,
    Remove,
    ServicePort,
    Snapshot,
    Upsert,
)
from hamlet_core.config.model import PublishRule
from hamlet_core.publish import publication as module
from hamlet_core.publish.catalog import Catalog, Payload, Subscription
from hamlet_core.publish.policy import Policy
from hamlet_core.publish.publication import Problem, Publication

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
INGRESS = Ingress(endpoints=(Endpoint(address="gw.west.example", port=8443),), sans=("gw.west.example",))


def policy(*rules: dict[str, object], peers: tuple[str, ...] = ("east", "north"), **others: object) -> Policy:
    given: dict[str, object] = {
        "mesh": "west",
        "domain": "west.example",
        "registries": ("main", "second"),
        "ingress": INGRESS,
        **others,
    }
    return Policy(rules=tuple(map(PublishRule.model_validate, rules)), peers=peers, **given)  # type: ignore[arg-type]


def local(name: str, **fields: object) -> LocalService:
    given: dict[str, object] = {
        "ports": (ServicePort(name="http", port=80),),
        "endpoints": (Endpoint(address="10.0.0.1", port=8080),),
        **fields,
    }
    return LocalService(name=name, **given)  # type: ignore[arg-type]


def pack(service: FederatedService) -> Payload:
    packed = f"{service.name} {service.description}".strip().encode()
    return Payload(v1alpha1=packed, v1alpha2=packed)


def publication(*rules: dict[str, object], **others: object) -> tuple[Publication, Catalog]:
    catalog = Catalog(pack)
    return Publication(policy(*rules, **others), catalog, NOW), catalog


def snapshot(*names: str) -> Snapshot:
    return Snapshot(tuple(map(local, names)))


def taken(subscription: Subscription) -> list[str]:
    entries = subscription.take(1_000)
    return [entry.payload.v1alpha2.decode() if entry.payload else f"-{entry.name}" for entry in entries]


def names(published: Publication) -> dict[str, set[str]]:
    return {peer: set(view) for peer, view in published.views.items()}


def test_what_a_registry_reports_reaches_the_streams_of_those_it_is_for():
    published, catalog = publication({"to": ["east"], "select": {"name": "o*"}})
    east, north = (catalog.subscribe(published.audience(peer)) for peer in ("east", "north"))
    published.observe("main", snapshot("orders", "cart"), NOW)
    assert taken(east) == ["orders.west.example"]
    published.observe(
        "main",
        (Upsert(local("offers")), Upsert(local("orders", description="new")), Upsert(local("cart", tags=("x",)))),
        NOW,
    )
    assert taken(east) == ["offers.west.example", "orders.west.example new"]
    published.observe("main", (Remove("offers"), Remove("cart"), Remove("never there")), NOW)
    assert taken(east) == ["-offers.west.example"]
    published.observe("main", snapshot("offers"), NOW)
    assert taken(east) == ["-orders.west.example", "offers.west.example"]
    assert taken(north) == []
    assert names(published) == {"east": {"offers.west.example"}, "north": set()}


def test_the_last_of_several_changes_of_a_service_in_a_batch_counts():
    published, catalog = publication({"to": "all"})
    published.observe("main", (Upsert(local("a")), Remove("a"), Upsert(local("a", description="2"))), NOW)
    assert taken(catalog.subscribe(published.audience("east"))) == ["a.west.example 2"]


def test_peers_with_the_same_rules_read_the_same_log():
    published, catalog = publication({"to": "all"}, peers=tuple(f"peer{number}" for number in range(20)))
    published.observe("main", snapshot("orders"), NOW)
    assert len(catalog.stats().audiences) == 1
    assert len({published.audience(f"peer{number}") for number in range(20)}) == 1


def test_one_change_among_ten_thousand_touches_one_service(monkeypatch):
    published, catalog = publication({"to": "all"}, {"to": ["east"], "name": "x.{domain}", "until": NOW + HOUR})
    services = {f"s{number}": local(f"s{number}") for number in range(10_000)}
    published.observe("main", Snapshot(tuple(services.values())), NOW)
    decided = []
    decide = module.decide
    monkeypatch.setattr(
        module, "decide", lambda service, *rest: decided.append(service.name) or decide(service, *rest)
    )
    before = catalog.version
    published.observe("main", (Upsert(local("s77", description="changed")),), NOW)
    published.observe("main", (Upsert(services["s78"]),), NOW)
    assert decided == ["s77"]
    services["s5"] = local("s5", description="changed")
    services["s77"] = local("s77", description="changed")
    published.observe("main", Snapshot(tuple(services.values())), NOW)
    assert decided == ["s77", "s5"]
    assert catalog.version - before == 2 * len(catalog.stats().audiences)


def test_a_change_that_no_peer_can_see_is_not_sent():
    published, catalog = publication({"to": "all"})
    published.observe("main", snapshot("orders"), NOW)
    version = catalog.version
    published.observe("main", (Upsert(local("orders", endpoints=(Endpoint(address="10.9.9.9", port=1),))),), NOW)
    assert catalog.version == version, "behind the gateway it looks the same"
    published.observe("main", (Upsert(local("orders", endpoints=())),), NOW)
    assert names(published)["east"] == set()
    assert published.problems() == (Problem("main", "orders", "publish[0]: no healthy endpoint"),)
    published.observe("main", (Remove("orders"),), NOW)
    assert published.problems() == ()


def test_it_is_ready_when_every_registry_has_given_a_snapshot():
    published, _ = publication({"to": "all"})
    published.observe("main", snapshot(), NOW)
    published.observe("second", (Upsert(local("orders")),), NOW)
    assert not published.ready
    published.observe("second", snapshot(), NOW)
    assert published.ready
    published.set_policy(policy(registries=("main", "second", "third")), NOW)
    assert not published.ready
    published.set_policy(policy(registries=("main",)), NOW)
    assert published.ready
    published.set_policy(policy(registries=("main", "second")), NOW)
    assert not published.ready, "what it said before it was taken out is forgotten"
    published.set_policy(policy(registries=("main",)), NOW)
    published.forget_registry("main")
    assert not published.ready


def test_a_registry_that_is_not_configured_is_refused():
    published, _ = publication({"to": "all"})
    with pytest.raises(HamletError, match=r"'third' is none of the configured ones \(main, second\)"):
        published.observe("third", snapshot("orders"), NOW)


def test_a_registry_that_is_forgotten_is_withdrawn():
    published, catalog = publication({"to": "all"})
    published.observe("main", snapshot("orders"), NOW)
    published.observe("second", snapshot("cart"), NOW)
    stream = catalog.subscribe(published.audience("east"))
    taken(stream)
    assert published.forget_registry("main") is True
    assert published.forget_registry("main") is False
    assert taken(stream) == ["-orders.west.example"]
    assert "orders" not in published.local_names()


class TestTheClock:
    RULES = (
        {"to": ["east"], "select": {"name": "o*"}, "from": NOW + HOUR, "until": NOW + 2 * HOUR},
        {"to": ["north"]},
    )

    def test_begins_and_ends_rules(self):
        published, catalog = publication(*self.RULES)
        published.observe("main", snapshot("orders", "cart"), NOW)
        stream = catalog.subscribe(published.audience("east"))
        seen = []
        for minutes in (0, 59, 60, 119, 120, 60, 0):
            published.tick(NOW + timedelta(minutes=minutes))
            seen.append((minutes, taken(stream)))
        came, went = ["orders.west.example"], ["-orders.west.example"]
        assert seen == [(0, []), (59, []), (60, came), (119, []), (120, went), (60, came), (0, went)]

    def test_touches_only_what_the_rule_selects(self, monkeypatch):
        published, _ = publication(*self.RULES)
        published.observe("main", snapshot("orders", "cart"), NOW)
        decided = []
        decide = module.decide
        monkeypatch.setattr(
            module, "decide", lambda service, *rest: decided.append(service) or decide(service, *rest)
        )
        published.tick(NOW + HOUR)
        assert [service.name for service in decided] == ["orders"]

    def test_says_when_the_next_rule_begins_or_ends(self):
        published, _ = publication(*self.RULES)
        assert published.next_boundary(NOW) == NOW + HOUR
        assert published.next_boundary(NOW + HOUR) == NOW + 2 * HOUR
        assert published.next_boundary(NOW + 2 * HOUR) is None

    def test_is_followed_by_a_report_that_comes_before_the_tick(self):
        published, _ = publication(*self.RULES)
        published.observe("main", snapshot("orders"), NOW)
        published.observe("main", (Upsert(local("offers")),), NOW + HOUR)
        assert names(published)["east"] == {"orders.west.example", "offers.west.example"}


class TestTwoServicesThatWantOneName:
    """Rule order decides, then registry order, then the name."""

    SHOP: ClassVar[dict[str, object]] = {"to": "all", "name": "shop.{domain}", "select": {"name": "shop-*"}}

    def winner(self, published: Publication) -> str:
        return published.views["east"]["shop.west.example"].description

    def shop(self, name: str) -> Upsert:
        return Upsert(local(name, description=name))

    def test_the_lesser_name_wins_whoever_came_first_and_the_loser_is_told_who(self):
        published, _ = publication(self.SHOP)
        for name in ("shop-c", "shop-a", "shop-b"):
            published.observe("main", (self.shop(name),), NOW)
        assert self.winner(published) == "shop-a"
        reason = "its published name 'shop.west.example' is taken by 'shop-a' of registry 'main'"
        assert published.problems() == (Problem("main", "shop-b", reason), Problem("main", "shop-c", reason))

    def test_the_loser_takes_over_when_the_winner_goes(self):
        published, catalog = publication(self.SHOP)
        published.observe("main", (self.shop("shop-a"), self.shop("shop-b")), NOW)
        stream = catalog.subscribe(published.audience("east"))
        assert taken(stream) == ["shop.west.example shop-a"]
        published.observe("main", (Remove("shop-a"),), NOW)
        assert taken(stream) == ["shop.west.example shop-b"]
        assert published.problems() == ()
        published.observe("main", (self.shop("shop-a"),), NOW)
        assert taken(stream) == ["shop.west.example shop-a"]
        published.observe("main", (Upsert(local("shop-a", endpoints=())),), NOW)
        assert taken(stream) == ["shop.west.example shop-b"]

    def test_the_earlier_registry_wins_over_the_lesser_name(self):
        published, _ = publication(self.SHOP)
        published.observe("second", (self.shop("shop-a"),), NOW)
        published.observe("main", (self.shop("shop-z"),), NOW)
        assert self.winner(published) == "shop-z"
        published.set_policy(policy(self.SHOP, registries=("second", "main")), NOW)
        assert self.winner(published) == "shop-a"
        assert [problem.service for problem in published.problems()] == ["shop-z"]

    def test_the_earlier_rule_wins_over_the_earlier_registry(self):
        published, _ = publication({**self.SHOP, "select": {"registry": "second"}}, self.SHOP)
        published.observe("main", (self.shop("shop-a"),), NOW)
        published.observe("second", (self.shop("shop-z"),), NOW)
        assert self.winner(published) == "shop-z"

    def test_no_one_loses_where_they_are_for_different_peers(self):
        published, _ = publication(
            {"to": ["east"], "name": "shop.{domain}", "select": {"name": "shop-b"}},
            {"to": ["north"], "name": "shop.{domain}", "select": {"name": "shop-a"}},
        )
        published.observe("main", (self.shop("shop-a"), self.shop("shop-b")), NOW)
        assert published.problems() == ()
        assert {peer: view["shop.west.example"].description for peer, view in published.views.items()} == {
            "east": "shop-b",
            "north": "shop-a",
        }


class TestLocalNames:
    def test_are_those_of_all_services_here_and_outside_published_or_not(self):
        published, _ = publication({"to": [], "name": "{name}.shop.example"}, {"to": ["east"], "until": NOW})
        assert published.observe("main", snapshot("orders"), NOW) is True
        assert published.local_names() == {"orders", "orders.west.example", "orders.shop.example"}

    def test_change_only_when_the_first_of_a_name_comes_or_the_last_goes(self):
        published, _ = publication()
        names = published.local_names()
        assert published.observe("main", snapshot("orders"), NOW) is True
        assert published.observe("second", snapshot("orders"), NOW) is False
        assert published.observe("main", (Upsert(local("orders", description="new")),), NOW) is False
        assert published.observe("main", (Remove("orders"),), NOW) is False
        assert "orders" in names
        assert published.observe("second", (Remove("orders"),), NOW) is True
        assert not names

    def test_follow_the_policy(self):
        published, _ = publication()
        published.observe("main", snapshot("orders"), NOW)
        assert published.set_policy(policy({"to": "all"}), NOW) is False
        assert published.set_policy(policy({"to": "all", "name": "{name}.shop.example"}), NOW) is True
        assert "orders.shop.example" in published.local_names()


class TestAnotherPolicy:
    def test_writes_only_what_differs(self):
        published, catalog = publication({"to": "all"})
        published.observe("main", snapshot("orders", "cart"), NOW)
        version = catalog.version
        published.set_policy(policy({"to": "all"}), NOW)
        assert catalog.version == version

    def test_moves_a_stream_by_the_difference_and_leaves_the_others_alone(self):
        published, catalog = publication({"to": "all"})
        published.observe("main", snapshot("orders", "cart"), NOW)
        streams = {peer: catalog.subscribe(published.audience(peer)) for peer in ("east", "north")}
        for stream in streams.values():
            taken(stream)
        audience = published.audience("east")
        published.set_policy(
            policy({"to": ["north"], "select": {"name": "orders"}, "name": "o.{domain}"}, {"to": "all"}), NOW
        )
        assert published.audience("east") == audience
        for peer, stream in streams.items():
            stream.move(published.audience(peer))
        assert taken(streams["east"]) == []
        assert sorted(taken(streams["north"])) == ["-orders.west.example", "o.west.example"]

    def test_lets_go_of_the_audiences_that_nobody_belongs_to_any_more(self):
        published, catalog = publication({"to": ["east"]})
        published.observe("main", snapshot("orders"), NOW)
        stream = catalog.subscribe(published.audience("east"))
        taken(stream)
        published.set_policy(policy(), NOW)
        stream.move(published.audience("east"))
        assert taken(stream) == ["-orders.west.example"]
        assert catalog.stats().payloads == 0
        assert [each.audience for each in catalog.stats().audiences] == [published.audience("east")]

    def test_forgets_the_registries_it_does_not_have(self):
        published, _ = publication({"to": "all"})
        published.observe("second", snapshot("orders"), NOW)
        published.set_policy(policy({"to": "all"}, registries=("main",)), NOW)
        assert names(published)["east"] == set()
        assert not published.local_names()

    def test_can_be_looked_at_before_it_is_set(self):
        published, catalog = publication({"to": ["east"]})
        published.observe("main", Snapshot((local("orders"), local("cart", endpoints=()))), NOW)
        published.observe("second", snapshot("users"), NOW)
        version = catalog.version
        other = published.preview(policy({"to": ["north"]}, registries=("main", "new")), NOW)
        assert names(other) == {"east": set(), "north": {"orders.west.example"}}
        assert [problem.service for problem in other.problems()] == ["cart"]
        assert catalog.version == version
        assert names(published)["east"] == {"orders.west.example", "users.west.example"}
