"""Options: what contradicts itself is refused, and the README lists every key with its default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hamlet_istio.access import ClusterOptions
from hamlet_istio.coordinator import IstioCoordinatorOptions
from hamlet_istio.gateway_options import EgressOptions, IngressOptions, IstioGatewayOptions
from hamlet_istio.options import IstioOptions, TlsOrigination
from pydantic import BaseModel, ValidationError

SECRET = {"mode": "MUTUAL", "credential_name": "c"}
README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"token": "t"}, "belong to `server`"),
        ({"server": "https://k:6443"}, "needs `token` or `token_file`"),
        ({"server": "https://k:6443", "token": "t", "token_file": "t"}, "needs `token` or `token_file`"),
        ({"server": "http://k:6443", "token": "t"}, "http only on this machine"),
        ({"server": "k:6443", "token": "t"}, "must be a URL"),
        ({"server": "https://k:6443", "token": "t", "context": "c"}, "either `server`"),
        ({"in_cluster": True, "kubeconfig": "c"}, "either `in_cluster`"),
        ({"mode": "linkerd"}, "istio"),
        ({"import_namespace": "Imports"}, "RFC 1123"),
        ({"virtual_addresses": "240.0.0.0"[:-2]}, "CIDR"),
        ({"virtual_addresses": "240.0.0.1/16"}, "host bits"),
        ({"san": "spiffe://{domain}/x"}, "filled in are"),
        ({"san": "spiffe://{"}, "Single '{'"),
        ({"watch": "0.5s"}, "greater than or equal"),
        ({"timeout": "soon"}, "no duration"),
        ({"concurrency": 0}, "greater than"),
        ({"unknown": 1}, "Extra inputs"),
        ({"tls": {"mode": "MUTUAL"}}, "credential_name"),
        ({"tls": {"credential_name": "c"}}, "ISTIO_MUTUAL"),
        ({"tls": {"mode": "SIMPLE", "private_key": "k"}}, "take MUTUAL"),
        ({"tls": {"mode": "MUTUAL", "credential_name": "c"}}, "workload_selector"),
        ({"tls": {"mode": "SIMPLE", "credential_name": "c", "ca_certificates": "f"}}, "either"),
        ({"tls": {**SECRET, "consumers": {"shop": {"a": "b"}, "bank": {}}}}, "workload_selector"),
        ({"tls": {**SECRET, "consumers": {"Shop": {"a": "b"}}}}, "RFC 1123"),
        ({"tls": {"consumers": {"shop": {"a": "b"}}}}, "belongs to `credential_name`"),
        ({"tls": {**SECRET, "consumers": {"shop": {"a": "b"}}}, "export_to": (".", "bank")}, "names shop, which"),
        ({"token_file": "t"}, "in_cluster: true"),
        ({"in_cluster": True, "token": "t"}, "belong to `server`"),
        ({"proxy": "proxy:3128"}, "http(s)://host:port"),
        ({"proxy": "socks5://proxy:1080"}, "http(s)://host:port"),
        ({"proxy": "http://agent:hush@proxy:3128"}, "'proxy:3128' must be"),
        ({"proxy_credentials": "agent:hush"}, "belongs to `proxy`"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        IstioOptions(**options)


def test_a_secret_is_never_shown() -> None:
    given: dict[str, Any] = {"server": "https://k:6443", "token": "hush-hush"}
    options = IstioOptions(**given, proxy="http://proxy:3128", proxy_credentials="agent:hush-hush")
    assert "hush-hush" not in repr(options) + options.model_dump_json()


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{name}.")
        else:
            yield f"{prefix}{name}", shown(field.get_default(call_default_factory=True))


def shown(default: object) -> str:
    match default:
        case None:
            return "none"
        case bool():
            return str(default).lower()
        case timedelta():
            return f"{default.total_seconds():g}s"
        case tuple():
            return ", ".join(map(str, default)) or "none"
        case dict():
            return "none"
    return str(default)


def listed(text: str) -> dict[str, str]:
    """The keys of the tables in a text, with their defaults."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", text, flags=re.MULTILINE)
    return {key: default.strip().replace("`", "") for key, default in rows if key != "kind"}


REGISTRY, _, _REST = README.read_text().partition("## The gateway")
GATEWAY, _, LEADER = _REST.partition("## Which agent leads")


def test_the_readme_lists_every_option_with_its_default() -> None:
    found = listed(REGISTRY)
    assert found == dict(keys(IstioOptions))
    assert set(TlsOrigination.model_fields) == {key[4:] for key in found if key.startswith("tls.")}


def test_the_readme_lists_every_option_of_the_coordinator() -> None:
    own = IstioCoordinatorOptions.model_fields.keys() - ClusterOptions.model_fields.keys()
    assert set(listed(LEADER)) == own


def test_the_readme_lists_every_option_of_the_gateway_with_its_default_or_says_that_it_is_the_registrys() -> None:
    own = {"cluster_domain": "cluster.local"}
    for name, half in (("ingress", IngressOptions), ("egress", EgressOptions)):
        own |= {f"{name}.{key}": default for key, default in keys(half)}
    assert listed(GATEWAY) == own | {"ingress.selector": "istio: ingress"}
    others = IstioGatewayOptions.model_fields.keys() - {"ingress", "egress", "cluster_domain"}
    assert others == ClusterOptions.model_fields.keys()
    assert not [key for key in others if f"`{key}`" not in GATEWAY]
