"""ACL default-deny: the documented policy is enough and needed, and what is hidden is never taken for gone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hamlet_consul.check import policy
from hamlet_consul.errors import ConsulDenied, UnknownToken

from hamlet_core.api import AdapterContext, RemoveImport, Severity, Status, WriteImport
from hamlet_core.api.testing import Watching, imported_service
from tests.backends.consul import ONLY_CONSUL, Consul
from tests.support.processes import wait_until

WITHIN = 30.0
Start = Callable[..., Any]
CONTEXT = AdapterContext(
    name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
)
POLICY = policy(CONTEXT)


def test_everything_works_with_exactly_the_documented_policy(consul_acl: Consul, start_registry: Start) -> None:
    consul_acl.do("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "orders", "Protocol": "http"})
    consul_acl.register("orders")
    started = start_registry(consul_acl, token=consul_acl.make_token(POLICY).secret)
    assert {finding.severity for finding in started.hooks.registry_check()} == {Severity.OK}
    watching = started.watch()
    assert watching.state["orders"].ports[0].name == "http"
    service = imported_service("stock")
    (outcome,) = started.hooks.registry_apply(changes=[WriteImport(service)])
    assert outcome.status is Status.APPLIED
    lost = datetime(2024, 5, 17, tzinfo=UTC)
    assert started.hooks.registry_mark_peer(peer="east", lost_since=lost)
    (standing,) = started.hooks.registry_imports()
    assert (standing.key, standing.digest, standing.lost_since) == (service.key, service.digest, lost)
    consul_acl.deregister("orders")
    watching.until(lambda state: not state, WITHIN)
    started.hooks.registry_apply(changes=[RemoveImport(service.key, service.local_name)])
    assert started.hooks.registry_imports() == []


@pytest.mark.parametrize(
    ("without", "right"),
    [
        ('node_prefix "" { policy = "read" }', "node:read"),
        ('node_prefix "hamlet-west-" { policy = "write" }', "node:write"),
        ('service_prefix "" { policy = "write" intentions = "deny" }', "service:write"),
    ],
)
def test_each_line_of_the_policy_is_needed_and_its_lack_is_named(
    consul_acl: Consul, start_registry: Start, without: str, right: str
) -> None:
    assert without in POLICY
    token = consul_acl.make_token(POLICY.replace(without, ""))
    findings = start_registry(consul_acl, token=token.secret).hooks.registry_check()
    missing = [finding for finding in findings if finding.severity is Severity.ERROR]
    assert any(right in finding.subject for finding in missing)
    assert all(POLICY in finding.mend for finding in missing)


def test_without_a_valid_token_the_catalog_is_not_taken_for_empty(consul_acl: Consul, start_registry: Start) -> None:
    consul_acl.register("orders")
    hidden = (
        'key_prefix "" { policy = "read" }',
        ONLY_CONSUL,
        POLICY.replace('service_prefix ""', 'service_prefix "b"'),
    )
    for token in ("", *(consul_acl.make_token(rules).secret for rules in hidden), "1" * 8):
        watching = Watching(start_registry(consul_acl, token=token).hooks)
        assert isinstance(watching.failed(WITHIN), ConsulDenied)
        assert watching.batches == []


def test_an_agent_that_publishes_needs_to_see_no_more_than_what_it_publishes(
    consul_acl: Consul, start_registry: Start
) -> None:
    token = consul_acl.make_token(ONLY_CONSUL + ' service "orders" { policy = "read" }')
    registry = start_registry(consul_acl, token=token.secret)
    watching = Watching(registry.hooks)
    assert isinstance(watching.failed(WITHIN), ConsulDenied), "there is none, or none is shown"
    consul_acl.register("orders")
    consul_acl.register("billing")
    watching = registry.watch()
    assert set(watching.state) == {"orders"}
    consul_acl.deregister("orders")
    watching.until(lambda state: not state, WITHIN)


def test_imports_are_not_listed_by_who_may_not_see_all_of_them(consul_acl: Consul, start_registry: Start) -> None:
    started = start_registry(consul_acl, token=consul_acl.make_token(ONLY_CONSUL).secret)
    with pytest.raises(ConsulDenied, match="does not see all"):
        started.hooks.registry_imports()


def test_a_revoked_token_ends_the_watch_and_withdraws_nothing(consul_acl: Consul, start_registry: Start) -> None:
    consul_acl.register("orders")
    token = consul_acl.make_token(POLICY)
    started = start_registry(consul_acl, token=token.secret, wait="500ms")
    watching = started.watch()
    token.revoke()
    error = watching.failed(WITHIN)
    assert isinstance(error, ConsulDenied)
    assert "ACL not found" in str(error)
    assert set(watching.state) == {"orders"}
    again = Watching(started.hooks)
    assert isinstance(again.failed(WITHIN), ConsulDenied)
    assert again.batches == []
    findings = started.hooks.registry_check()
    assert any("ACL not found" in finding.message for finding in findings)


def test_a_token_that_consul_does_not_know_is_told_once_and_without_a_right_to_give_it(
    consul_acl: Consul, start_registry: Start
) -> None:
    hooks = start_registry(consul_acl, token="11111111-2222-3333-4444-555555555555").hooks
    faults = [finding for finding in hooks.registry_check() if finding.severity is not Severity.OK]
    assert [(fault.subject, fault.severity) for fault in faults] == [("token", Severity.ERROR)]
    with pytest.raises(UnknownToken) as listing:
        hooks.registry_imports()
    with pytest.raises(UnknownToken) as writing:
        hooks.registry_apply(changes=[WriteImport(imported_service("stock"))])
    told = {(str(each.value), each.value.mend) for each in (listing, writing)}
    assert told == {(faults[0].message, faults[0].mend)}, "one sentence, whatever was asked"
    assert faults[0].message.startswith("Consul does not know this token (deleted, mistyped")
    assert faults[0].mend == "put a valid one in `token`, and restart the agent"


def test_what_another_call_learns_of_a_revoked_token_ends_the_watch_at_once(
    consul_acl: Consul, start_registry: Start
) -> None:
    consul_acl.register("orders")
    token = consul_acl.make_token(POLICY)
    started = start_registry(consul_acl, token=token.secret, wait="10m")
    watching = started.watch()
    asked = started.registry.requests
    wait_until(lambda: asked.snapshot()["health/state"] == 2, within=WITHIN)  # the second is the one that waits
    token.revoke()
    assert [each for each in started.hooks.registry_check() if each.subject == "token"]
    assert isinstance(watching.failed(WITHIN), UnknownToken)
    assert set(watching.state) == {"orders"}


def test_rights_that_are_taken_away_hide_nothing_and_recovery_needs_no_restart(
    consul_acl: Consul, start_registry: Start
) -> None:
    consul_acl.register("orders")
    consul_acl.register("billing")
    token = consul_acl.make_token(POLICY)
    started = start_registry(consul_acl, token=token.secret)
    watching = started.watch()
    token.set_rules(ONLY_CONSUL)
    consul_acl.register("news")
    error = watching.failed(WITHIN)
    assert isinstance(error, ConsulDenied)
    assert "not taken for gone" in str(error)
    assert set(watching.state) == {"orders", "billing"}
    again = Watching(started.hooks)
    assert isinstance(again.failed(WITHIN), ConsulDenied)
    assert again.batches == []
    token.set_rules(POLICY)
    assert set(started.watch().state) == {"orders", "billing", "news"}


def test_a_service_that_is_really_gone_is_withdrawn_under_acl_too(consul_acl: Consul, start_registry: Start) -> None:
    consul_acl.register("orders")
    consul_acl.register("billing")
    watching = start_registry(consul_acl, token=consul_acl.make_token(POLICY).secret).watch()
    consul_acl.deregister("orders")
    watching.until(lambda state: set(state) == {"billing"}, WITHIN)


def test_writes_without_the_right_say_which_one_and_can_be_tried_again(
    consul_acl: Consul, start_registry: Start
) -> None:
    token = consul_acl.make_token(POLICY)
    started = start_registry(consul_acl, token=token.secret)
    first, second = imported_service("stock"), imported_service("mail")
    started.hooks.registry_apply(changes=[WriteImport(first)])
    token.set_rules(POLICY.replace('service_prefix "" { policy = "write"', 'service_prefix "" { policy = "read"'))
    (outcome,) = started.hooks.registry_apply(changes=[WriteImport(second)])
    assert outcome.status is Status.RETRY
    assert 'service_prefix "" (write)' in outcome.reason
    token.set_rules(POLICY)
    (outcome,) = started.hooks.registry_apply(changes=[WriteImport(second)])
    assert outcome.status is Status.APPLIED


def test_a_check_without_acl_says_so(consul: Consul, start_registry: Start) -> None:
    findings = start_registry(consul).hooks.registry_check()
    assert [finding.subject for finding in findings if finding.severity is Severity.WARNING] == ["rights"]
    assert {"agent", "leader", "version"} <= {f.subject for f in findings if f.severity is Severity.OK}


def test_everything_works_behind_mutual_tls(consul_tls: Consul, start_registry: Start) -> None:
    consul_tls.register("orders")
    started = start_registry(consul_tls)
    watching = started.watch()
    service = imported_service("stock")
    (outcome,) = started.hooks.registry_apply(changes=[WriteImport(service)])
    assert outcome.status is Status.APPLIED
    consul_tls.register("billing")
    watching.until(lambda state: set(state) == {"orders", "billing"}, WITHIN)
    assert [each.key for each in started.hooks.registry_imports()] == [service.key]
    assert Severity.ERROR not in {finding.severity for finding in started.hooks.registry_check()}


def test_the_readme_has_the_policy_that_is_tested_here() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for line in POLICY.splitlines():
        assert line.startswith("#") or line in readme
