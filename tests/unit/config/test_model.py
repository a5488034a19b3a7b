from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from hamlet_core.config.driven import Gateway
from hamlet_core.config.keys import allowed_keys, description, is_path, model_at
from hamlet_core.config.model import Config, Peer, PublishRule, Select

MINIMAL: dict[str, Any] = {
    "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
    "identity": {"certificate": "a.crt", "key": "a.key"},
    "registries": {"local": {"kind": "file", "path": "registry"}},
}
EAST = {"bundle": "east.pem", "trust_domain": "east.example"}


def _config(**changes: Any) -> Config:
    return Config.model_validate({**copy.deepcopy(MINIMAL), **changes})


def _sections(model: type[BaseModel], loc: tuple[str | int, ...] = ()) -> Iterator[tuple[str, str, str]]:
    for key in allowed_keys(model, loc):
        here = (*loc, key)
        yield model.__name__, ".".join(map(str, here)), description(model, here)
        for below in (here, (*here, "x"), (*here, 0)):
            if model_at(model, below):
                yield from _sections(model, below)


def test_every_key_has_a_description() -> None:
    keys = list(_sections(Config))
    assert {"mesh.name", "registries.x.kind", "publish.0.select.labels", "peers.x.brake.share"} <= {
        k for _, k, _ in keys
    }
    assert [key for _, key, text in keys if not text.endswith(".")] == []


def test_the_least_configuration_is_safe_by_default() -> None:
    config = _config()
    assert (config.publish, config.peers, config.gateway) == ((), {}, None)
    assert config.admin.http == "127.0.0.1:8009"
    peer = Peer.model_validate(EAST)
    assert (peer.allow_endpoints, peer.retain, peer.brake.share) == ((), timedelta(hours=24), 0.3)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        _config().listen = "0.0.0.0:1"


def test_options_of_an_adapter_are_kept_and_never_printed() -> None:
    config = _config(registries={"local": {"kind": "consul", "token": "hush"}})
    assert config.registries["local"].options == {"token": "hush"}
    assert "hush" not in repr(config)
    assert "token" in repr(config)


REFUSED = [
    ({"publish": [{"to": ["north"]}]}, "'north' is not among the peers (there are none)"),
    (
        {"publish": [{"to": ["north", "east", "south"]}], "peers": {"east": EAST}},
        "'north' is not among the peers (east); 'south' is not among the peers (east)",
    ),
    ({"publish": [{"to": "all", "select": {"registry": "other"}}]}, "'other' is not among the registries (local)"),
    ({"peers": {"east": {**EAST, "import_into": ["other"]}}}, "'other' is not among the registries (local)"),
    ({"peers": {"east": {**EAST, "trust_domain": "west.example"}}}, "is the trust domain of this mesh already"),
    ({"peers": {"east": EAST, "north": EAST}}, "is the trust domain of peer east already"),
    ({"peers": {"East": EAST}}, "lower-case"),
    ({"registries": {}}, "at least 1"),
    ({"registries": {"local": {"path": "x"}}}, "Field required"),
    ({"registries": {"local": {"kind": ""}}}, "at least 1"),
    ({"admin": {"http": "0.0.0.0:8009"}}, "must be on loopback"),
    ({"surprise": 1}, "Extra inputs"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_sections_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _config(**changes)
    assert said in str(refused.value)


PEERS_REFUSED = [
    ({"trust_domain": None}, "given: none"),
    ({"dns_name": "east.example"}, "given: trust_domain, dns_name"),
    ({"fingerprint": "0" * 64}, "given: trust_domain, fingerprint"),
    ({"fingerprint": "abc"}, "64 hexadecimal digits"),
    ({"spiffe_id": "spiffe://north.example/agent"}, "must lie in the peer's trust_domain (east.example)"),
    ({"spiffe_id": "spiffe://east.example.evil/agent"}, "must lie in the peer's trust_domain"),
    ({"address": "east.example:0"}, "from 1 to 65535"),
    ({"quiet": 0}, "greater than"),
    ({"ack_timeout": 0}, "greater than"),
    ({"backoff_cap": "500ms"}, "greater than or equal"),
    ({"max_services": -1}, "greater than or equal"),
    ({"max_message_bytes": 5_000_000}, "less than or equal"),
    ({"api": "v1"}, "'v1alpha1', 'v1alpha2' or 'auto'"),
]


@pytest.mark.parametrize(("changes", "said"), PEERS_REFUSED)
def test_a_peer_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Peer.model_validate({**EAST, **changes})
    assert said in str(refused.value)


def test_a_fingerprint_may_have_colons_and_capitals() -> None:
    peer = Peer.model_validate({"bundle": "e.pem", "fingerprint": ":".join(["AB"] * 32)})
    assert peer.fingerprint == "ab" * 32


@pytest.mark.parametrize(
    "template", ["{name}.{mesh}.{domain}", "{registry}.{name}.example", "orders.west.example", "{name}"]
)
def test_a_name_of_what_is_published_may_be_a_template(template: str) -> None:
    assert PublishRule.model_validate({"to": "all", "name": template}).name == template


@pytest.mark.parametrize(
    "template",
    ["{nam}", "{name", "{}", "{0}", "{name.__class__}", "{name!r}", "{name:>900000000}", "{name}_x", "A", ""],
)
def test_a_template_takes_nothing_but_its_four_words_and_gives_a_domain_name(template: str) -> None:
    with pytest.raises(ValidationError):
        PublishRule.model_validate({"to": "all", "name": template})


@pytest.mark.parametrize(
    ("now", "active"),
    [("2026-02-28T23:59:59Z", False), ("2026-03-01T00:00:00Z", True), ("2026-03-31T22:00:00Z", False)],
)
def test_a_rule_holds_from_its_first_instant_until_before_its_last(now: str, active: bool) -> None:
    rule = PublishRule.model_validate(
        {"to": "all", "from": "2026-03-01T00:00:00Z", "until": "2026-04-01T00:00:00+02:00"}
    )
    assert rule.active(datetime.fromisoformat(now)) is active


def test_a_rule_without_times_always_holds() -> None:
    assert PublishRule.model_validate({"to": "all"}).active(datetime(1970, 1, 1, tzinfo=UTC))


def test_a_rule_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValidationError, match="later than `from`"):
        PublishRule.model_validate({"to": "all", "from": "2026-03-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"})


def test_one_pattern_needs_no_list() -> None:
    assert Select.model_validate({"name": "orders-*"}).name == ("orders-*",)


def test_a_selection_by_no_name_and_a_gateway_without_an_address_are_refused() -> None:
    with pytest.raises(ValidationError):
        Select.model_validate({"name": []})
    with pytest.raises(ValidationError):
        Gateway.model_validate({"endpoints": [], "sans": ["gateway.example"]})


@pytest.mark.parametrize(
    ("loc", "expected"),
    [
        (("identity", "bundle"), True),
        (("peers", "east", "bundle"), True),
        (("admin", "socket"), True),
        (("admin", "http"), False),
        (("registries", "local", "path"), False),
        (("nothing", "here"), False),
    ],
)
def test_the_model_knows_which_keys_take_a_path(loc: tuple[str, ...], expected: bool) -> None:
    assert is_path(Config, loc) is expected
