"""The gateway and the egress in hamlet.yaml: which keys belong to which kind, and which of them leads which way."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hamlet_core.agent.fixed import needs_restart
from hamlet_core.config.driven import Egress, Gateway
from hamlet_core.config.model import Config

STATIC = {"endpoints": ["gw.west.example:8443"], "sans": ["gw.west.example"]}


def config(**sections: Any) -> Config:
    return Config.model_validate(
        {
            "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
            "identity": {"certificate": "c.pem", "key": "k.pem"},
            "registries": {"main": {"kind": "file"}},
            **sections,
        }
    )


def test_a_gateway_is_static_unless_its_kind_is_named() -> None:
    assert Gateway.model_validate(STATIC).static
    assert Gateway.model_validate({"kind": "static", **STATIC}).static
    assert not Gateway.model_validate({"kind": "envoy"}).static


def test_what_a_plugins_gateway_is_given_belongs_to_it() -> None:
    gateway = Gateway.model_validate({"kind": "envoy", "listen": "0.0.0.0:8443", "tls": {"minimum": 3}})
    assert gateway.options == {"listen": "0.0.0.0:8443", "tls": {"minimum": 3}}
    assert Egress.model_validate({"kind": "envoy", "bind": "::1"}).options == {"bind": "::1"}


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({}, "must not be empty for a gateway of kind static"),
        ({"endpoints": ["gw.west.example:8443"]}, "must not be empty for a gateway of kind static"),
        ({**STATIC, "listen": "0.0.0.0:1"}, "is no key of a gateway of kind static"),
        ({"kind": "envoy", "sans": ["a.example"]}, "belongs to kind static: envoy finds it out"),
        ({"kind": "envoy", "endpoints": ["a.example:1"]}, "belongs to kind static: envoy finds it out"),
        ({**STATIC, "endpoints": ["a.example"]}, "host:port"),
        ({"kind": ""}, "at least 1 character"),
    ],
)
def test_a_key_of_another_kind_is_refused(section: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        config(gateway=section)


@pytest.mark.parametrize("section", [{}, {"kind": ""}, {"bind": "a"}])
def test_an_egress_has_a_kind(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="kind"):
        config(egress=section)


@pytest.mark.parametrize("model", [Gateway, Egress])
def test_options_are_shown_without_their_values(model: Any) -> None:
    shown = repr(model.model_validate({"kind": "envoy", "token": "hunter2"}))
    assert "token" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("sections", "way_in", "way_out"),
    [
        ({}, None, None),
        ({"gateway": STATIC}, None, None),
        ({"gateway": {"kind": "envoy"}}, "envoy", "envoy"),
        ({"egress": {"kind": "envoy"}}, None, "envoy"),
        ({"gateway": STATIC, "egress": {"kind": "envoy"}}, None, "envoy"),
        ({"gateway": {"kind": "istio"}, "egress": {"kind": "envoy"}}, "istio", "envoy"),
    ],
)
def test_calls_go_out_through_the_egress_or_else_the_gateway(
    sections: dict[str, Any], way_in: str | None, way_out: str | None
) -> None:
    found = config(**sections)
    assert (found.way_in and found.way_in.kind, found.way_out and found.way_out.kind) == (way_in, way_out)


@pytest.mark.parametrize(
    ("old", "new", "fixed"),
    [
        ({}, {}, []),
        ({}, {"gateway": STATIC}, []),
        ({"gateway": STATIC}, {"gateway": {**STATIC, "sans": ["other.example"]}}, []),
        ({"gateway": STATIC}, {}, []),
        ({"gateway": STATIC}, {"gateway": {"kind": "envoy"}}, ["gateway"]),
        ({"gateway": {"kind": "envoy"}}, {"gateway": {"kind": "envoy", "listen": "a:1"}}, ["gateway"]),
        ({"gateway": {"kind": "envoy"}}, {"gateway": STATIC}, ["gateway"]),
        ({"gateway": {"kind": "envoy"}}, {"gateway": {"kind": "istio"}}, ["gateway"]),
        ({}, {"egress": {"kind": "envoy"}}, ["egress"]),
        ({"egress": {"kind": "envoy"}}, {"egress": {"kind": "envoy", "bind": "a"}}, ["egress"]),
    ],
)
def test_only_a_gateway_that_nobody_drives_may_change_while_the_agent_runs(
    old: dict[str, Any], new: dict[str, Any], fixed: list[str]
) -> None:
    assert needs_restart(config(**old), config(**new)) == fixed
