"""What pages have typed beside real backends: kubectl, etcdctl, Envoy; and rules in the language of others.

Each block is typed as it stands, where what its page says is so: the adapter, told what the page tells it, then does
its work with what was made.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pluggy
import pytest
from hamlet_envoy.bootstrap import find_binary
from hamlet_istio.gateway import IstioGateway
from hamlet_istio.gateway_options import IstioGatewayOptions
from hamlet_istio.options import IstioOptions
from hamlet_istio.registry import IstioRegistry
from ruamel.yaml import YAML

from hamlet_core.api import (
    PROJECT,
    AdapterContext,
    GatewaySpec,
    GatewayUnavailable,
    RegistrySpec,
    RemoveImport,
    Severity,
    Status,
    WriteImport,
)
from hamlet_core.api.testing import Watching, imported_service
from tests.backends.consul import Consul
from tests.backends.envoy import Mesh, Server, short_folder, wait_for
from tests.backends.kubernetes import OwnKubernetes
from tests.backends.not_run import needed
from tests.docs.blocks import ROOT, Block, blocks, pages
from tests.docs.etcd import running_etcd, with_etcdctl
from tests.docs.typing_blocks import BASH, at_a_terminal, bash, succeeds, surroundings, typed
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)
PATIENCE = 60.0
EAST = AdapterContext(
    name="east", mesh="east", domain="east.example", trust_domain="east.example", directory=Path("/nowhere")
)


def agent(adapter: object) -> pluggy.HookRelay:
    """The hooks of an adapter, as an agent has them."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrySpec)
    manager.add_hookspecs(GatewaySpec)
    manager.register(adapter)
    return manager.hook


# --- Kubernetes --------------------------------------------------------------------------------------------

ISTIO = "plugins/istio/README.md"
ENTRIES = "/apis/networking.istio.io/v1/namespaces/hamlet-imports/serviceentries"


def told(holding: str) -> dict[str, Any]:
    """What the page's one example that has this text says hamlet.yaml says."""
    (text,) = (each.text for each in blocks(ROOT / ISTIO) if each.language == "yaml" and holding in each.text)
    found: dict[str, Any] = YAML(typ="safe").load(text)
    return found


@pytest.mark.xdist_group("kubernetes")
def test_what_kubectl_makes_is_what_the_adapters_of_istio_need_and_shows_what_was_written(
    own_kubernetes: OwnKubernetes, machine: dict[str, str], tmp_path: Path
) -> None:
    (kubectl,) = needed("kubectl", "kubectl")
    (making, showing), (granting,) = typed(ISTIO, "Quick start"), typed(ISTIO, "The gateway")
    environ = {**machine, "KUBECONFIG": str(own_kubernetes.kubeconfig)}
    environ["PATH"] += f":{kubectl.parent}"  # last: another Python may lie beside it
    succeeds(f"python3 -m venv there && . there/bin/activate\n{making}", tmp_path, environ)
    token = tmp_path / "token"
    token.write_text(own_kubernetes.token_for("hamlet", "hamlet"))
    here = {"server": own_kubernetes.server, "ca": own_kubernetes.ca, "token_file": token}

    registry = told("token_file")["registries"]["east"]
    assert registry.keys() == {"kind", *here}
    opened = agent(IstioRegistry(IstioOptions(**here), EAST))
    service = imported_service("orders", "west")
    try:
        # An API server hears of rights by a watch of its own, a moment after they are there.
        wait_until(lambda: {each.severity for each in opened.registry_check()} == {Severity.OK}, what="all is well")
        (outcome,) = opened.registry_apply(changes=[WriteImport(service)])
        assert outcome.status is Status.APPLIED, outcome
        shown = succeeds(showing, tmp_path, environ)
        (head, row) = shown.splitlines()[:2]
        assert head.split()[-1] == "PEER"
        assert (row.split()[0], row.split()[-1]) == ("orders-west-example", "west")
        assert "orders.west.example" in shown
        opened.registry_apply(changes=[RemoveImport(service.key, service.local_name)])
    finally:
        opened.registry_close()

    # The gateway: the namespaces are Istio's and the consumers', and there before.
    for name in ("istio-ingress", "shop"):
        own_kubernetes.make_namespace(name)
    options = told("consumers: {shop")["gateway"]
    assert options.pop("kind") == "istio"
    gateway = agent(IstioGateway(IstioGatewayOptions(**options, **here), EAST))
    no_ingress = {"Service istio-ingress/istio-ingress"}
    try:
        assert wrong(gateway) > no_ingress, "rights are missing before they are granted"
        succeeds(f". there/bin/activate\n{granting}", tmp_path, environ)
        wait_until(lambda: wrong(gateway) == no_ingress, what="no ingress alone: Istio installs it, and nobody did")
    finally:
        gateway.gateway_close()


def wrong(gateway: pluggy.HookRelay) -> set[str]:
    return {each.subject for each in gateway.gateway_check() if each.severity is Severity.ERROR}


# --- etcd --------------------------------------------------------------------------------------------------

ETCD = "examples/hamlet-etcd/README.md"
EXAMPLE = ROOT / "examples" / "hamlet-etcd"


@pytest.fixture
def open_etcd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., pluggy.HookRelay]]:
    """Open the adapter of the example, which is in no environment, with options of hamlet.yaml."""
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))
    options_type = importlib.import_module("hamlet_etcd.options").EtcdOptions
    open_registry = importlib.import_module("hamlet_etcd.plugin").open_registry
    opened: list[pluggy.HookRelay] = []

    def opening(**options: Any) -> pluggy.HookRelay:
        opened.append(agent(open_registry(options_type(**options), EAST)))
        return opened[-1]

    yield opening
    for each in opened:
        each.registry_close()
    for name in [name for name in sys.modules if name.partition(".")[0] == "hamlet_etcd"]:
        del sys.modules[name]


def test_what_etcdctl_puts_is_a_service_and_the_rights_of_the_page_are_enough(
    open_etcd: Callable[..., pluggy.HookRelay], tmp_path: Path
) -> None:
    (putting,), (granting,) = typed(ETCD, "Use"), typed(ETCD, "Rights")
    password = uuid.uuid4().hex
    with running_etcd() as address:
        environ = with_etcdctl(address)
        succeeds(putting, tmp_path, environ)
        asked = [("Password of hamlet: ", password), ("Type password of hamlet again for confirmation: ", password)]
        granted = at_a_terminal(granting, environ, asked)
        assert granted.code == 0, granted.said
        succeeds(
            "etcdctl user add root:r && etcdctl user grant-role root root\netcdctl auth enable", tmp_path, environ
        )
        refused = bash("etcdctl get mesh/services/orders", tmp_path, environ)
        assert refused.code != 0, "without a user there is nothing to see now"

        hooks = open_etcd(address=address, user="hamlet", password=password)
        watching = Watching(hooks)
        found = watching.until(lambda state: "orders" in state, PATIENCE)["orders"]
        assert [(each.address, each.port) for each in found.endpoints] == [("10.0.0.5", 8080)]
        service = imported_service("stock", "west")
        (outcome,) = hooks.registry_apply(changes=[WriteImport(service)])
        assert outcome.status is Status.APPLIED, outcome
        assert [each.key for each in hooks.registry_imports()] == [service.key]
        hooks.registry_mark_peer(peer="west", lost_since=None)
        (outcome,) = hooks.registry_apply(changes=[RemoveImport(service.key, service.local_name)])
        assert outcome.status is Status.APPLIED, outcome
        watching.end(PATIENCE)

        elsewhere = open_etcd(address=address, user="hamlet", password=password, prefix="other/")
        with pytest.raises(Exception, match="permission denied"):
            elsewhere.registry_imports()


# --- Envoy -------------------------------------------------------------------------------------------------


def test_an_envoy_of_ones_own_is_started_by_the_line_of_its_page_and_leads_a_call() -> None:
    (command,) = typed("plugins/envoy/README.md", "An Envoy of your own")
    with short_folder() as folder:
        west, server = Mesh("west", folder, extra={"manage": False}), Server()
        directory = folder / "envoy"
        with pytest.raises(GatewayUnavailable, match="does not run"):
            west.trust(west.peer())
        binary = find_binary(west.gateway._options, folder)
        assert binary is not None, "hamlet-envoy[bundled] is a part of what tests need"
        assert command.count("DIRECTORY/") == 2
        line = command.replace("DIRECTORY", str(directory))
        process = subprocess.Popen([*BASH, f"exec {line}"], env=surroundings(binary.parent), start_new_session=True)
        try:
            wait_for(west.gateway._admin.is_live, "Envoy")
            west.trust(west.peer())
            west.gateway.gateway_publish([west.publishes("orders", server, to=["west"])])
            assert west.ask("orders.west.example", west.own) == b"hello"
            assert (directory / "envoy.log").stat().st_size
        finally:
            process.terminate()
            process.wait(PATIENCE)
            west.close()
            server.close()


# --- rules in the language of others -----------------------------------------------------------------------

HCL = [each for page in pages() for each in blocks(page) if each.language == "hcl"]
RULES = [each for each in HCL if "policy =" in each.text]


@pytest.mark.parametrize("block", RULES, ids=lambda block: block.where)
def test_consul_takes_the_rules_of_a_page(block: Block, consul_acl: Consul) -> None:
    made = consul_acl.do("PUT", "/v1/acl/policy", {"Name": f"page-{uuid.uuid4().hex}", "Rules": block.text})
    consul_acl.do("DELETE", f"/v1/acl/policy/{made['ID']}")


def test_what_else_is_in_hcl_is_typed_by_its_tutorial() -> None:
    assert {each.page for each in HCL if each not in RULES} == {"docs/tutorial-consul-istio.md"}


def test_consul_refuses_rules_that_are_none(consul_acl: Consul) -> None:
    reply = consul_acl.call("PUT", "/v1/acl/policy", {"Name": "page-wrong", "Rules": 'node_prefix "" { polizy = 1 }'})
    assert reply.status >= 400


def test_prometheus_takes_the_alerts_of_the_page(tmp_path: Path) -> None:
    (promtool,) = needed("promtool", "promtool")
    (rules,) = (each.text for each in blocks(ROOT / "docs/operations.md") if each.text.startswith("groups:"))
    for text, expected in ((rules, 0), (rules.replace("hamlet_ready == 0", "hamlet_ready == (0", 1), 1)):
        (tmp_path / "rules.yaml").write_text(text)
        done = bash("promtool check rules rules.yaml", tmp_path, surroundings(promtool.parent))
        assert done.code == expected, done.said


def test_changes_that_a_registry_does_not_take_are_an_alert(tmp_path: Path) -> None:
    (promtool,) = needed("promtool", "promtool")
    (rules,) = (each.text for each in blocks(ROOT / "docs/operations.md") if each.text.startswith("groups:"))
    (tmp_path / "rules.yaml").write_text(rules)
    (tmp_path / "test.yaml").write_text("""
rule_files: [rules.yaml]
tests:
  - interval: 1m
    input_series:
      - {series: 'hamlet_peer_imports_pending{peer="denied"}', values: "2x30"}
      - {series: 'hamlet_peer_imports_pending{peer="busy"}', values: "2x10 0 2x30"}
      - {series: 'hamlet_registry_importing{registry="main"}', values: "1x30"}
    alert_rule_test:
      - eval_time: 20m
        alertname: HamletImportsPending
        exp_alerts: [{exp_labels: {peer: denied}}]
      - {eval_time: 20m, alertname: HamletImportsWait, exp_alerts: []}
""")
    done = bash("promtool test rules test.yaml", tmp_path, surroundings(promtool.parent))
    assert done.code == 0, done.said
