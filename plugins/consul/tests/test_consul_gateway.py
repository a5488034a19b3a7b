"""The terminating gateway's objects on a real Consul: accepted, complete, shared with others, taken back."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pluggy
import pytest
from hamlet_consul.client import Client
from hamlet_consul.gateway import ConsulGateway
from hamlet_consul.gateway_check import gateway_policy
from hamlet_consul.gateway_options import ConsulGatewayOptions
from hamlet_consul.linking import Linking
from hamlet_consul.naming import hashed_name

from hamlet_core.api import (
    PROJECT,
    AdapterContext,
    GatewaySpec,
    GatewayUnavailable,
    ImportKey,
    ImportRoute,
    PeerTrust,
    PublishRoute,
    Refused,
    RegistryUnavailable,
    RemoveImport,
    Route,
    ServicePort,
    Severity,
    Status,
    Stop,
    Trust,
    WriteImport,
)
from hamlet_core.api.testing import imported_service
from hamlet_core.api.testing.minting import Mint
from tests.backends.consul import Consul

WITHIN = 30.0
GATEWAY = "terminating-gateway"
ENTRY = f"/v1/config/terminating-gateway/{GATEWAY}"
FOREIGN = {"Name": "payments", "CAFile": "/etc/ca.pem", "SNI": "payments.example"}
Start = Callable[..., Any]
OURS, EAST, NORTH = Mint("ours"), Mint("east"), Mint("north")


def trust(*peers: Mint, leaf: Any = None) -> Trust:
    leaf = leaf or OURS.leaf("spiffe://west.example/agent")
    names = {id(EAST): "east", id(NORTH): "north"}
    return Trust(
        certificate=leaf.pem.decode(),
        key=leaf.key_pem.decode(),
        peers=tuple(
            PeerTrust(peer=names.get(id(mint), "east"), trust_domain=None, bundle=mint.pem.decode()) for mint in peers
        ),
    )


def route(name: str, peer: str = "east", **changes: Any) -> ImportRoute:
    plain = imported_service(name, peer).service
    return ImportRoute(peer=peer, service=dataclasses.replace(plain, **({"sans": (plain.fqdn,)} | changes)))


class Opened:
    """A gateway of mesh `west` as an agent opens it."""

    def __init__(self, consul: Consul, base: Path, **options: Any) -> None:
        given: dict[str, Any] = {"address": consul.address, "token": consul.token, "names": "checked"}
        context = AdapterContext(
            name="gateway", mesh="west", domain="west.example", trust_domain="west.example", directory=base
        )
        self.consul = consul
        self.gateway = ConsulGateway(ConsulGatewayOptions(**(given | options)), context)
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(GatewaySpec)
        manager.register(self.gateway)
        self.hooks = manager.hook

    def trust(self, *peers: Mint, leaf: Any = None) -> None:
        assert self.hooks.gateway_trust(trust=trust(*peers, leaf=leaf)) is True

    def lead(self, *routes: ImportRoute, keep: Iterable[ImportKey] | None = ()) -> dict[ImportKey, Any]:
        answers: dict[ImportKey, Any] = self.hooks.gateway_import(routes=routes, keep=keep)
        return answers

    def links(self) -> dict[str, dict[str, Any]]:
        return links(self.consul)


def links(consul: Consul) -> dict[str, dict[str, Any]]:
    reply = consul.call("GET", ENTRY)
    return {link["Name"]: link for link in reply.body["Services"]} if reply.status == 200 else {}


def protocols(consul: Consul) -> dict[str, str]:
    return {entry["Name"]: entry["Protocol"] for entry in consul.do("GET", "/v1/config/service-defaults")}


def led(gateway: Opened, *routes: ImportRoute) -> bool:
    """Whether the gateway took the routes; what it cannot take now, the core asks again."""
    try:
        gateway.lead(*routes)
    except GatewayUnavailable:
        return False
    return True


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not check():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def open_gateway(tmp_path: Path) -> Iterator[Start]:
    """Open a gateway on a Consul: `open_gateway(consul, files="/etc/egress")`."""
    opened: list[Opened] = []

    def start(consul: Consul, **options: Any) -> Opened:
        opened.append(Opened(consul, tmp_path, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.gateway.gateway_close()


# What is written


def test_an_import_is_linked_so_that_consul_checks_its_owner(
    consul: Consul, open_gateway: Start, tmp_path: Path
) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    stock = route("stock")
    assert gateway.lead(stock) == {
        stock.key: Route(
            endpoints={"http": stock.service.endpoints},
            originates_tls=False,
            settings={"consul-terminating-gateway": GATEWAY},
        )
    }
    (link,) = gateway.links().values()
    assert (link["Name"], link["SNI"]) == ("stock-east-example", "stock.east.example")
    folder = tmp_path / "consul-egress"
    assert Path(link["CAFile"]).parent == folder
    assert Path(link["CAFile"]).read_bytes() == EAST.pem
    assert Path(link["CertFile"]).read_text().startswith("-----BEGIN CERTIFICATE")
    assert Path(link["KeyFile"]).stat().st_mode & 0o777 == 0o600
    assert protocols(consul) == {"stock-east-example": "http"}
    known = consul.do("GET", f"/v1/catalog/gateway-services/{GATEWAY}")
    assert [(one["Service"]["Name"], one["SNI"]) for one in known] == [("stock-east-example", "stock.east.example")]


def test_the_proxy_is_told_the_folder_as_it_sees_it_and_the_gateway_by_its_name(
    consul: Consul, open_gateway: Start
) -> None:
    gateway = open_gateway(consul, files="/etc/egress", gateway="way-out")
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    (link,) = consul.do("GET", "/v1/config/terminating-gateway/way-out")["Services"]
    assert {Path(link[key]).parent for key in ("CAFile", "CertFile", "KeyFile")} == {Path("/etc/egress")}


def test_the_entry_of_the_registry_says_by_which_gateway_sidecars_get_there(
    consul: Consul, open_gateway: Start, start_registry: Start
) -> None:
    gateway, started = open_gateway(consul), start_registry(consul)
    gateway.trust(EAST)
    stock = route("stock")
    imported = dataclasses.replace(
        imported_service("stock"), service=stock.service, route=gateway.lead(stock)[stock.key]
    )
    (outcome,) = started.hooks.registry_apply(changes=[WriteImport(imported)])
    assert outcome.status is Status.APPLIED
    (found,) = consul.do("GET", "/v1/health/service/stock-east-example?passing")
    assert (found["Service"]["Address"], found["Service"]["Port"]) == ("203.0.113.7", 8443)
    assert (found["Service"]["Meta"]["hamlet-tls"], found["Service"]["Meta"]["hamlet-gateway"]) == ("caller", GATEWAY)


def test_what_consul_could_not_check_is_refused_and_not_linked(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    bare, good = route("bare", sans=("spiffe://east.example/ingress",)), route("good")
    answers = gateway.lead(bare, good, route("far", peer="north"))
    assert isinstance(answers[good.key], Route)
    assert "no name but the SNI" in answers[bare.key].reason
    assert "no bundle of north" in answers[ImportKey("north", "far.north.example")].reason
    assert set(gateway.links()) == {"good-east-example"}
    assert set(protocols(consul)) == {"good-east-example"}


def test_a_consul_that_may_check_no_names_is_led_nowhere(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul, names="by-version")
    gateway.trust(EAST)
    stock = route("stock")
    (answer,) = gateway.lead(stock).values()
    assert isinstance(answer, Refused)
    assert f"{consul.node} (1.8.7)" in answer.reason
    assert gateway.links() == {}
    (finding,) = (each for each in gateway.hooks.gateway_check() if each.subject == "names")
    assert finding.severity is Severity.ERROR


def test_the_same_again_writes_nothing(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    index = consul.do("GET", ENTRY)["ModifyIndex"]
    leaf = OURS.leaf("spiffe://west.example/agent")
    gateway.trust(EAST, leaf=leaf)
    renewed = consul.do("GET", ENTRY)["ModifyIndex"]
    gateway.trust(EAST, leaf=leaf)
    gateway.lead(route("stock"))
    assert index < renewed == consul.do("GET", ENTRY)["ModifyIndex"]


def test_a_link_stands_when_its_entry_has_been_written_since(
    consul: Consul, open_gateway: Start, start_registry: Start
) -> None:
    gateway, started = open_gateway(consul), start_registry(consul)
    gateway.trust(EAST)
    routes = [route(name) for name in ("stock", "mail", "news")]
    for count, each in enumerate(routes, 1):
        gateway.lead(*routes[:count])
        assert len(gateway.links()) == count, "a link that stood was cut"
        (outcome,) = started.hooks.registry_apply(
            changes=[WriteImport(imported_service(each.service.name.split(".")[0]))]
        )
        assert outcome.status is Status.APPLIED


# What is taken back


def test_a_withdrawn_import_loses_its_link_and_its_protocol(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("stock"), route("mail"))
    gateway.lead(route("mail"))
    assert set(gateway.links()) == set(protocols(consul)) == {"mail-east-example"}
    gateway.lead()
    assert (gateway.links(), protocols(consul)) == ({}, {})
    assert consul.do("GET", ENTRY)["Services"] == [], "the entry is the operator's, and stays"


def test_after_a_restart_what_is_kept_stays_and_what_is_gone_goes(
    consul: Consul, open_gateway: Start, start_registry: Start
) -> None:
    first, started = open_gateway(consul), start_registry(consul)
    first.trust(EAST)
    routes = [route(name) for name in ("stock", "mail", "news")]
    first.lead(*routes)
    changes = [WriteImport(imported_service(name)) for name in ("stock", "mail", "news")]
    started.hooks.registry_apply(changes=changes)
    started.hooks.registry_apply(changes=[RemoveImport(routes[2].key, "news.east.example")])
    first.gateway.gateway_close()
    again = open_gateway(consul)
    again.trust(EAST)
    again.lead(keep=None)
    assert len(again.links()) == len(protocols(consul)) == 3, "some registry has not spoken yet"
    again.lead(routes[0], keep=[routes[1].key])
    assert set(again.links()) == set(protocols(consul)) == {"stock-east-example", "mail-east-example"}
    again.lead(routes[0])
    assert set(again.links()) == set(protocols(consul)) == {"stock-east-example"}


def test_what_is_kept_stays_though_its_entry_is_not_seen(consul: Consul, open_gateway: Start) -> None:
    first = open_gateway(consul)
    first.trust(EAST)
    stock = route("stock")
    first.lead(stock, route("mail"))
    first.gateway.gateway_close()
    again = open_gateway(consul)
    again.trust(EAST)
    again.lead(keep=[stock.key])
    assert set(again.links()) == set(protocols(consul)) == {"stock-east-example"}


def test_a_peer_that_is_no_longer_believed_loses_its_links_at_once(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST, NORTH)
    gateway.lead(route("stock"), route("mail", peer="north"))
    gateway.trust(NORTH)
    assert set(gateway.links()) == {"mail-north-example"}


def test_rotation_gives_new_paths_and_leaves_the_files_of_one_generation(
    consul: Consul, open_gateway: Start, tmp_path: Path
) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    seen = [set(gateway.links()["stock-east-example"].values())]
    other = Mint("east, renewed")
    for bundle in (EAST, other, other):
        gateway.trust(bundle, leaf=OURS.leaf("spiffe://west.example/agent"))
        seen.append(set(gateway.links()["stock-east-example"].values()))
        paths = [{value for value in said if value.startswith("/")} for said in seen[-2:]]
        assert {str(path) for path in (tmp_path / "consul-egress").iterdir()} == paths[0] | paths[1]
        assert len(paths[1] - paths[0]) >= 2
    (path,) = (value for value in seen[-1] if value.endswith(".ca.pem"))
    assert Path(path).read_bytes() == other.pem


# Others


def test_what_others_have_in_the_entry_stays_as_it_was(consul: Consul, open_gateway: Start) -> None:
    mine = {
        "Kind": "terminating-gateway",
        "Name": GATEWAY,
        "Meta": {"team": "net"},
        "Services": [FOREIGN, {"Name": "*"}],
    }
    consul.do("PUT", "/v1/config", mine)
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    entry = consul.do("GET", ENTRY)
    assert entry["Services"][:2] == mine["Services"]
    assert [link["Name"] for link in entry["Services"][2:]] == ["stock-east-example"]
    assert entry["Meta"] == {"team": "net"}
    gateway.lead()
    gateway.trust()
    assert consul.do("GET", ENTRY)["Services"] == mine["Services"]


def test_a_link_of_someone_else_in_the_way_is_said_and_keeps_nobody_from_its_place(
    consul: Consul, open_gateway: Start
) -> None:
    theirs = {"Name": "stock-east-example", "SNI": "x.example", "CAFile": "/etc/ca.pem"}
    consul.do("PUT", "/v1/config", {"Kind": "terminating-gateway", "Name": GATEWAY, "Services": [theirs]})
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    stock, mail = route("stock"), route("mail")
    answers = gateway.lead(stock, mail)
    assert isinstance(answers[stock.key], Refused)
    assert isinstance(answers[mail.key], Route)
    assert gateway.links()["stock-east-example"] == theirs
    assert "mail-east-example" in gateway.links()


def test_a_protocol_that_someone_else_said_stands(consul: Consul, open_gateway: Start) -> None:
    consul.do("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "stock-east-example", "Protocol": "tcp"})
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    assert protocols(consul) == {"stock-east-example": "tcp"}
    gateway.lead()
    assert protocols(consul) == {"stock-east-example": "tcp"}


def test_without_protocols_no_service_defaults_are_written(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul, protocols=False)
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    assert protocols(consul) == {}


def test_a_change_of_someone_else_in_between_is_read_and_the_decision_made_anew(
    consul: Consul, make_client: Callable[..., Client]
) -> None:
    linking = Linking(
        client=make_client(consul),
        context=AdapterContext(name="gateway", mesh="w", domain="w", trust_domain="w", directory=Path("/")),
        gateway=GATEWAY,
    )
    seen: list[list[str]] = []

    def decided(present: Any) -> Any:
        seen.append([link["Name"] for link in present])
        if len(seen) <= 2:
            names = [*seen[-1], f"theirs-{len(seen)}"]
            body = {"Kind": "terminating-gateway", "Name": GATEWAY, "Services": [{"Name": name} for name in names]}
            consul.do("PUT", "/v1/config", body)
        return [*present, {"Name": "ours"}]

    linking.change(decided)
    assert seen == [[], ["theirs-1"], ["theirs-1", "theirs-2"]]
    assert set(links(consul)) == {"theirs-1", "theirs-2", "ours"}


def test_who_is_never_let_to_write_says_so_and_tries_later(
    consul: Consul, make_client: Callable[..., Client]
) -> None:
    linking = Linking(
        client=make_client(consul),
        context=AdapterContext(name="gateway", mesh="w", domain="w", trust_domain="w", directory=Path("/")),
        gateway=GATEWAY,
    )

    def decided(present: Any) -> Any:
        names = [*(link["Name"] for link in present), f"theirs-{len(present)}"]
        body = {"Kind": "terminating-gateway", "Name": GATEWAY, "Services": [{"Name": name} for name in names]}
        consul.do("PUT", "/v1/config", body)
        return [{"Name": "ours"}]

    with pytest.raises(RegistryUnavailable, match="changed by others"):
        linking.change(decided)
    assert "ours" not in links(consul)


def test_two_writers_at_once_lose_nothing_of_each_other(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("s0"))

    def edit() -> None:
        for number in range(20):
            while True:
                entry = consul.do("GET", ENTRY)
                entry["Services"] = [*entry["Services"], {"Name": f"theirs-{number}"}]
                if consul.do("PUT", f"/v1/config?cas={entry['ModifyIndex']}", entry):
                    break

    editor = threading.Thread(target=edit)
    editor.start()
    names = [f"s{number}" for number in range(10)]
    for count in range(1, 11):
        until(partial(led, gateway, *map(route, names[:count])))
    editor.join(4 * WITHIN)
    assert set(gateway.links()) == {f"theirs-{n}" for n in range(20)} | {f"{name}-east-example" for name in names}


# Names


def test_an_import_under_another_name_is_linked_as_soon_as_its_entry_says_so(
    consul: Consul, open_gateway: Start, start_registry: Start
) -> None:
    gateway, started = open_gateway(consul), start_registry(consul)
    gateway.trust(EAST)
    stock, mail = route("stock"), route("mail")
    gateway.lead(stock, mail)
    alias = dataclasses.replace(imported_service("stock"), local_name="stock-east.east.example")
    started.hooks.registry_apply(changes=[WriteImport(alias), WriteImport(imported_service("mail"))])
    until(lambda: set(gateway.links()) == {"stock-east-east-example", "mail-east-example"})
    gateway.lead(stock)
    assert set(gateway.links()) == set(protocols(consul)) == {"stock-east-east-example"}


def test_a_service_of_someone_else_is_never_linked(
    consul: Consul, open_gateway: Start, start_registry: Start
) -> None:
    consul.register("stock-east-example")
    gateway, started = open_gateway(consul), start_registry(consul)
    gateway.trust(EAST)
    assert isinstance(gateway.lead(route("stock"))[route("stock").key], Route)
    assert gateway.links() == {}
    finding = next(each for each in gateway.hooks.gateway_check() if each.subject == "links")
    assert "stock.east.example" in finding.message
    (outcome,) = started.hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    assert outcome.status is Status.REJECTED
    consul.deregister("stock-east-example")
    until(lambda: set(gateway.links()) == {"stock-east-example"})


def test_a_service_that_comes_under_a_name_that_was_linked_ahead_loses_the_link(
    consul: Consul, open_gateway: Start
) -> None:
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    assert set(gateway.links()) == {"stock-east-example"}
    consul.register("stock-east-example")
    until(lambda: gateway.links() == {})


def test_two_imports_with_one_short_name_have_a_link_each(
    consul: Consul, open_gateway: Start, start_registry: Start
) -> None:
    gateway, started = open_gateway(consul), start_registry(consul)
    gateway.trust(EAST)
    other = dataclasses.replace(route("a-b").service, name="a.b.east.example", fqdn="a.b.east.example")
    gateway.lead(route("a-b"), ImportRoute(peer="east", service=other))
    first = imported_service("a-b")
    second = dataclasses.replace(first, local_name="a.b.east.example", service=other)
    started.hooks.registry_apply(changes=[WriteImport(first), WriteImport(second)])
    until(lambda: set(gateway.links()) == {"a-b-east-example", hashed_name("a.b.east.example")})


# Outages, rights, the rest of the contract


def test_an_outage_changes_nothing_and_the_next_call_mends_it(start_consul: Start, open_gateway: Start) -> None:
    consul = start_consul(durable=True)
    gateway = open_gateway(consul)
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    consul.kill()
    with pytest.raises(GatewayUnavailable, match="Consul at"):
        gateway.lead(route("mail"))
    with pytest.raises(GatewayUnavailable, match="Consul at"):
        gateway.trust(EAST, NORTH)
    finding = next(each for each in gateway.hooks.gateway_check() if each.subject == "agent")
    assert finding.severity is Severity.ERROR
    consul.start()
    gateway.trust(EAST, NORTH)
    gateway.lead(route("mail"))
    assert set(gateway.links()) == {"mail-east-example"}


def test_nothing_is_led_before_there_is_trust(consul: Consul, open_gateway: Start) -> None:
    with pytest.raises(GatewayUnavailable, match="no certificate"):
        open_gateway(consul).lead(route("stock"))


def test_a_folder_that_cannot_be_written_is_named(consul: Consul, open_gateway: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gateway = open_gateway(consul, directory=Path("file/folder"))
    with pytest.raises(GatewayUnavailable, match="file/folder"):
        gateway.trust(EAST)
    finding = next(each for each in gateway.hooks.gateway_check() if each.subject == "directory")
    assert finding.severity is Severity.ERROR


def test_it_has_no_way_in(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul)
    stop = Stop()
    ingress = gateway.hooks.gateway_ingress(stop=stop)
    assert next(ingress) is None
    stop.set()
    assert list(ingress) == []
    wanted = PublishRoute(
        sni="orders.west.example",
        fqdn="orders.west.example",
        registry="main",
        service="orders",
        port=ServicePort(name="http", port=80),
        endpoints=(),
        peers=("east",),
    )
    (refused,) = gateway.hooks.gateway_publish(routes=[wanted]).values()
    assert "hamlet-envoy" in refused.reason


def token(consul: Consul, rules: str) -> str:
    policy = consul.do("PUT", "/v1/acl/policy", {"Name": f"gateway-{time.monotonic_ns()}", "Rules": rules})
    made: str = consul.do("PUT", "/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})["SecretID"]
    return made


@pytest.mark.parametrize("spoken", [True, False])
def test_everything_works_with_exactly_the_documented_policy(
    consul_acl: Consul, open_gateway: Start, spoken: bool
) -> None:
    secret = token(consul_acl, gateway_policy(protocols=spoken))
    gateway = open_gateway(consul_acl, token=secret, protocols=spoken)
    rights = [each for each in gateway.hooks.gateway_check() if each.subject.startswith("right")]
    assert {each.severity for each in rights} == {Severity.OK}
    gateway.trust(EAST)
    gateway.lead(route("stock"))
    assert set(links(consul_acl)) == {"stock-east-example"}
    assert protocols(consul_acl) == ({"stock-east-example": "http"} if spoken else {})
    gateway.lead()
    assert (links(consul_acl), protocols(consul_acl)) == ({}, {})


@pytest.mark.parametrize(
    ("without", "right"),
    [
        ('node_prefix "" { policy = "read" }', "node:read"),
        ('service_prefix "" { policy = "write" intentions = "deny" }', "service:read"),
        ('operator = "write"', "operator:write"),
    ],
)
def test_each_line_of_the_policy_is_needed_and_its_lack_is_named(
    consul_acl: Consul, open_gateway: Start, without: str, right: str
) -> None:
    rules = gateway_policy(protocols=True)
    assert without in rules
    gateway = open_gateway(consul_acl, token=token(consul_acl, rules.replace(without, "")))
    missing = [each for each in gateway.hooks.gateway_check() if each.severity is Severity.ERROR]
    assert any(right in each.subject and rules in each.mend for each in missing)

    def lead() -> None:
        gateway.trust(EAST)
        gateway.lead(route("stock"))

    with pytest.raises(GatewayUnavailable, match=r"lacks|refuses the token"):
        lead()
    assert links(consul_acl) == {}


def test_the_check_tells_whether_the_gateway_runs(consul: Consul, open_gateway: Start) -> None:
    gateway = open_gateway(consul)

    def found() -> Any:
        return next(each for each in gateway.hooks.gateway_check() if each.subject == "gateway")

    assert found().severity is Severity.WARNING
    assert "consul connect envoy -gateway=terminating" in found().mend
    consul.register(GATEWAY, Kind="terminating-gateway", Port=8443)
    assert found().severity is Severity.OK


def test_the_readme_has_the_policy_and_the_options_that_are_tested_here() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for line in gateway_policy(protocols=True).splitlines():
        assert line.startswith("#") or line in readme
    for name, field in ConsulGatewayOptions.model_fields.items():
        assert any(
            line.startswith(f"| `{name}` |") and str(field.description) in line for line in readme.splitlines()
        )
