"""The coordinator of kind `consul`: the contract on a real Consul, with a cable that is cut, and its rights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hamlet_consul.coordinator import ConsulCoordinator, ConsulCoordinatorOptions
from hamlet_consul.verification_leads import LeadBackend
from pydantic import ValidationError

from hamlet_core.api import AdapterContext, CoordinatorUnavailable, Severity, Stop
from hamlet_core.api.testing import CoordinatorBackend, CoordinatorContract
from tests.backends.consul import Consul

TTL = 10.0
"""The least that Consul takes, for what lasts for some of them."""
LONG = 60.0
"""What is done at once has a part of it, in which a busy machine manages as well."""
CONTEXT = AdapterContext(
    name="coordinator", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
)
KEY = "hamlet/west.example/west/leader"


def opened(consul: Consul, context: AdapterContext = CONTEXT, **options: Any) -> ConsulCoordinator:
    given = {"address": consul.address, "token": consul.token, "ttl": LONG} | options
    return ConsulCoordinator(ConsulCoordinatorOptions(**given), context)


class WholeStore(LeadBackend):
    """What the plugin ships, which looks at each key there is."""

    def __init__(self, consul: Consul) -> None:
        super().__init__(ConsulCoordinatorOptions.model_validate({"address": consul.address, "ttl": TTL}))
        self._consul = consul

    def entries(self) -> Mapping[str, object]:
        reply = self._consul.call("GET", "/v1/kv/?recurse")
        return {each["Key"]: each for each in reply.body} if reply.status == 200 else {}


def clear(consul: Consul) -> None:
    """Leave neither keys nor sessions of a test."""
    for session in consul.do("GET", "/v1/session/list"):
        consul.do("PUT", f"/v1/session/destroy/{session['ID']}")
    consul.do("DELETE", "/v1/kv/?recurse")


@pytest.mark.timeout(240)
class TestConsulCoordinatorContract(CoordinatorContract):
    """C1 to C6."""

    @pytest.fixture
    def backend(
        self, start_consul: Callable[..., Consul], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[CoordinatorBackend]:
        # A Consul on a busy machine may take longer than an agent waits for it, to lead and to give the lead up.
        monkeypatch.setattr("hamlet_consul.coordinator.CALL", 0.4)
        if "is_stopped" in request.node.name:
            monkeypatch.setattr("hamlet_consul.coordinator.LAST_WORDS", 0.4 * TTL)
        # One of its own: the lock delay of a session that ended lasts beyond the test.
        backend = WholeStore(start_consul())
        yield backend
        backend.close()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a lead given up in Consul however long that takes: an agent that ends does not wait for a slow one."""
    monkeypatch.setattr("hamlet_consul.coordinator.LAST_WORDS", LONG)


@pytest.mark.usefixtures("unhurried")
def test_the_session_depends_on_no_health_check_and_goes_with_the_lead(consul: Consul) -> None:
    words = opened(consul).coordinator_lead(stop := Stop())
    assert next(words)
    (session,) = consul.do("GET", "/v1/session/list")
    assert not session["NodeChecks"]
    assert not session["ServiceChecks"]
    (entry,) = consul.do("GET", f"/v1/kv/{KEY}")
    assert entry["Session"] == session["ID"]
    stop.set()
    assert list(words) == []
    assert consul.do("GET", "/v1/session/list") == []
    (entry,) = consul.do("GET", f"/v1/kv/{KEY}")
    assert "Session" not in entry
    clear(consul)


@pytest.mark.usefixtures("unhurried")
def test_a_lead_whose_session_was_destroyed_is_given_up(consul: Consul) -> None:
    words = opened(consul, lock="leaders/another", ttl=LONG / 2).coordinator_lead(stop := Stop())
    assert next(words)
    clear(consul)
    assert next(words) is False
    stop.set()
    assert list(words) == []
    clear(consul)


RULES = f'key "{KEY}" {{ policy = "write" }}\nsession_prefix "" {{ policy = "write" }}\n'


@pytest.mark.usefixtures("unhurried")
def test_the_policy_that_the_check_prints_is_enough_and_its_rights_are_needed(consul_acl: Consul) -> None:
    def token(rules: str) -> str:
        name = f"lead-{len(consul_acl.do('GET', '/v1/acl/policies'))}"
        consul_acl.do("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = consul_acl.do("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        return str(made["SecretID"])

    words = opened(consul_acl, token=token(RULES)).coordinator_lead(stop := Stop())
    assert next(words)
    stop.set()
    assert list(words) == []
    for rules in RULES.splitlines():
        with pytest.raises(CoordinatorUnavailable):
            next(opened(consul_acl, token=token(rules)).coordinator_lead(Stop()))
    findings = opened(consul_acl, token=token(RULES.splitlines()[1])).coordinator_check()
    assert any(RULES in each.mend for each in findings if each.severity is Severity.ERROR)
    clear(consul_acl)


@pytest.mark.usefixtures("unhurried")
def test_a_check_says_who_holds_the_key(consul: Consul) -> None:
    coordinator = opened(consul)
    before = coordinator.coordinator_check()
    assert {each.severity for each in before} == {Severity.OK}
    assert before[0].message == "nobody holds it"
    words = coordinator.coordinator_lead(stop := Stop())
    assert next(words)
    (session,) = consul.do("GET", "/v1/session/list")
    assert opened(consul).coordinator_check()[0].message == f"session {session['ID']} holds it"
    stop.set()
    assert list(words) == []
    clear(consul)


def test_a_consul_that_is_gone_is_a_finding(consul: Consul) -> None:
    (finding,) = opened(consul, address="http://127.0.0.1:1").coordinator_check()
    assert (finding.subject, finding.severity) == ("agent", Severity.ERROR)
    assert finding.message == "Consul at http://127.0.0.1:1 refuses connections"


def test_a_token_that_consul_does_not_know_is_a_finding_about_the_token(consul_acl: Consul) -> None:
    (finding,) = opened(consul_acl, token="11111111-2222-3333-4444-555555555555").coordinator_check()
    assert (finding.subject, finding.severity) == ("token", Severity.ERROR)
    assert finding.message.startswith("Consul does not know this token")
    assert finding.mend == "put a valid one in `token`, and restart the agent"


@pytest.mark.parametrize("options", [{"ttl": "9s"}, {"ttl": "61s"}, {"lock": "/a"}, {"lock": "a/"}])
def test_options_that_consul_would_refuse_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        ConsulCoordinatorOptions(**options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("unhurried")
def test_the_mark_is_what_stands_at_the_key(consul: Consul) -> None:
    words = opened(consul, lock="leaders/west").coordinator_lead(stop := Stop())
    assert next(words)
    said = consul.call("GET", "/v1/kv/leaders/west?raw").body
    assert (said if isinstance(said, dict) else json.loads(said)) == {
        "hamlet": "leader",
        "trust_domain": "west.example",
        "mesh": "west",
    }
    stop.set()
    assert list(words) == []
    clear(consul)
