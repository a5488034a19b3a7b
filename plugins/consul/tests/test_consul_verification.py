"""`hamlet verify-adapter consul` on a real Consul in use: every check is run, and nothing of others changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hamlet_consul.coordinator import ConsulCoordinatorOptions
from hamlet_consul.options import ConsulOptions
from hamlet_consul.verification import coordinator, registry

from hamlet_core.api import AdapterContext, RegistryUnavailable, WriteImport
from hamlet_core.api.testing import LIVE_NAMES, imported_service, local_service
from hamlet_core.api.testing.agents import apply
from tests.backends.consul import Consul
from tests.support.verifying import unwell, verified

RULES = """\
node_prefix "" { policy = "read" }
node_prefix "hamlet-west-" { policy = "write" }
node_prefix "hamlet-hamletverify-" { policy = "write" }
service_prefix "" { policy = "write" intentions = "deny" }
key "hamlet/west.example/west/leader" { policy = "write" }
key_prefix "hamlet/hamletverify.example/" { policy = "write" }
key_prefix "hamlet/other.hamletverify.example/" { policy = "write" }
session_prefix "" { policy = "write" }
"""
"""What the README gives an agent, and what it adds for the checks."""
LEADER = "hamlet/west.example/west/leader"


def settle(consul: Consul, start_registry: Callable[..., Any]) -> None:
    """Have services, imports of an agent, a leader, and something of others."""
    consul.register("orders", Tags=["v1"], Meta={"team": "shop"})
    started = start_registry(consul)
    apply(started.hooks, *(WriteImport(imported_service(name, "east")) for name in ("stock", "mail")))
    session = consul.do(
        "PUT", "/v1/session/create", {"Name": "hamlet, who leads mesh west, on here", "NodeChecks": []}
    )
    consul.do("PUT", f"/v1/kv/{LEADER}?acquire={session['ID']}", "ours")
    consul.do("PUT", "/v1/kv/app/color", "blue")


def standing(consul: Consul) -> Mapping[str, object]:
    """All that is in the Consul, with the index of its last change."""
    nodes = [node["Node"] for node in consul.do("GET", "/v1/catalog/nodes")]
    return {
        "services": {name: sorted(tags) for name, tags in consul.do("GET", "/v1/catalog/services").items()},
        "nodes": {
            node: (
                consul.do("GET", f"/v1/catalog/node-services/{node}"),
                consul.do("GET", f"/v1/health/node/{node}"),
            )
            for node in nodes
        },
        "keys": consul.call("GET", "/v1/kv/?recurse").body,
        "sessions": {each["ID"] for each in consul.do("GET", "/v1/session/list")},
        "config": consul.do("GET", "/v1/config/service-defaults"),
    }


@pytest.mark.timeout(450)
@pytest.mark.parametrize("role", ["registry", "coordinator"])
def test_a_role_is_verified_with_the_rights_of_the_readme_and_nothing_else_changes(
    start_consul: Callable[..., Consul], start_registry: Callable[..., Any], tmp_path: Path, role: str
) -> None:
    consul = start_consul(acl=True)
    settle(consul, start_registry)
    token = consul.make_token(RULES)
    before = standing(consul)
    way = {"kind": "consul", "address": consul.address, "token": token.secret}
    adapters = {"registries": {"main": way}, "coordinator": {**way, "ttl": "10s"}}
    code, report = verified(tmp_path, "consul", adapters, "--role", role, within=400)
    assert (unwell(report), code) == ([], 0)
    assert (report["failed"], report["not_run"]) == (0, 0)
    assert [subject["role"] for subject in report["subjects"]] == [role]
    assert standing(consul) == before


@pytest.mark.timeout(300)
def test_an_outage_behind_tls_is_one_for_the_adapter_alone(consul_tls: Consul) -> None:
    assert consul_tls.pki
    certificate, key = consul_tls.pki.client
    backend = registry(
        ConsulOptions(address=consul_tls.address, ca=consul_tls.pki.ca, certificate=certificate, key=key)
    )
    adapter = backend.open(context())
    assert adapter.registry_imports() == []  # type: ignore[attr-defined]
    with backend.outage(), pytest.raises(RegistryUnavailable, match=r"did not answer|refuses connections"):
        adapter.registry_imports()  # type: ignore[attr-defined]
    assert adapter.registry_imports() == []  # type: ignore[attr-defined]
    adapter.registry_close()  # type: ignore[attr-defined]
    backend.close()


def test_a_name_that_the_certificate_has_not_is_refused(
    consul_tls: Consul, start_registry: Callable[..., Any]
) -> None:
    assert start_registry(consul_tls, tls_server_name="localhost").registry.registry_imports() == []
    with pytest.raises(RegistryUnavailable, match=r"another\.example"):
        start_registry(consul_tls, tls_server_name="another.example").registry.registry_imports()


def test_nothing_can_be_cut_before_a_unix_socket_and_the_check_says_so(consul: Consul) -> None:
    backend = registry(ConsulOptions(address=f"unix://{consul.socket}"))
    adapter = backend.open(context())
    assert adapter.registry_imports() == []  # type: ignore[attr-defined]
    with pytest.raises(pytest.skip.Exception, match="needs an address of http or https"):
        backend.outage()
    adapter.registry_close()  # type: ignore[attr-defined]
    backend.close()


def test_what_checks_that_were_killed_have_left_goes_before_the_next_ones_begin(consul: Consul) -> None:
    before = standing(consul)
    killed = registry(ConsulOptions(address=consul.address))
    killed.add_local(local_service("hamletverify-orders"))
    killed.add_foreign(imported_service("stock", LIVE_NAMES.peer))
    assert standing(consul) != before
    backend = registry(ConsulOptions(address=consul.address))
    backend.sweep()
    assert standing(consul)["nodes"] == before["nodes"]
    backend.close()
    killed.close()


def test_the_key_of_the_real_leader_is_not_that_of_the_checks(consul: Consul) -> None:
    consul.do("PUT", "/v1/kv/real/lock", "theirs")
    before = standing(consul)
    backend = coordinator(ConsulCoordinatorOptions(address=consul.address, lock="real/lock"))
    assert backend.add_foreign(context()) == "hamlet/hamletverify.example/hamletverify/leader"
    backend.open(context())
    backend.close()
    assert standing(consul)["keys"] == before["keys"]


def test_an_agent_loads_the_plugin_without_it() -> None:
    code = (
        "import sys; from hamlet_consul import plugin;"
        "found = {each.role: each.backend for each in plugin.hamlet_adapters()};"
        "assert found['registry'] == 'hamlet_consul.verification:registry', found;"
        "assert found['coordinator'] == 'hamlet_consul.verification:coordinator', found;"
        "assert not {'pytest', 'hamlet_consul.verification', 'hamlet_core.api.testing'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def context() -> AdapterContext:
    """As the checks open an adapter."""
    return AdapterContext(
        name=LIVE_NAMES.registry,
        mesh=LIVE_NAMES.mesh,
        domain=LIVE_NAMES.domain,
        trust_domain=LIVE_NAMES.trust_domain,
        directory=Path("/"),
    )
