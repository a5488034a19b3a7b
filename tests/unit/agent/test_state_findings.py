"""What `hamlet check` says of the agent's own state."""

from __future__ import annotations

import pytest

from hamlet_core.agent.findings import SHOWN, state_findings
from hamlet_core.api import Severity

GATEWAY = {"kind": "envoy", "state": "live", "error": ""}
LIVE = {"state": "live", "error": "", "mend": ""}
OUT = "registry 'main' (consul): KeyError: 'orders'"
REGISTRY = {"name": "main", "kind": "consul", "publishing": LIVE, "importing": LIVE}
HELD = {"since": "2026-03-01T08:00:00.000+00:00", "reason": "so many at once"}


def status(
    *,
    registry=None,
    gateway=None,
    egress=None,
    held=None,
    late=None,
    rotated=(),
    refused=None,
    refuses=None,
    unpublished=(),
    left=(),
):
    peer = {
        "name": "east",
        "imports": {"held": held or {}, "retried": late or {}, "rejected": refused or {}},
        "exports": {"rejected": refuses or {}},
    }
    return {
        "registries": [REGISTRY | (registry or {})],
        "rotated": list(rotated),
        "gateway": gateway,
        "egress": egress,
        "peers": [peer],
        "unpublished": list(unpublished),
        "left": list(left),
    }


def test_what_is_well_is_not_mentioned():
    assert list(state_findings(status())) == []
    assert list(state_findings(status(gateway=GATEWAY, egress=GATEWAY))) == []


@pytest.mark.parametrize(
    ("document", "subject", "severity", "message", "mend"),
    [
        (
            status(registry={"publishing": {"state": "silent", "error": OUT, "mend": "report it"}}),
            "registry 'main' (consul)",
            Severity.ERROR,
            "its services cannot be read: KeyError: 'orders'",
            "report it",
        ),
        (
            status(registry={"importing": {"state": "waiting", "error": "the gateway is gone", "mend": ""}}),
            "registry 'main' (consul)",
            Severity.ERROR,
            "it takes no imports: the gateway is gone",
            "by itself",
        ),
        (
            status(registry={"publishing": LIVE | {"state": "connecting"}}),
            "registry 'main' (consul)",
            Severity.WARNING,
            "not reported its services yet",
            "wait",
        ),
        (
            status(gateway=GATEWAY | {"state": "waiting", "error": "it has ended"}),
            "gateway (envoy)",
            Severity.ERROR,
            "it has ended",
            "by itself",
        ),
        (
            status(gateway=GATEWAY, egress=GATEWAY | {"kind": "consul", "state": "waiting", "error": "it has ended"}),
            "egress (consul)",
            Severity.ERROR,
            "it has ended",
            "by itself",
        ),
        (
            status(gateway=GATEWAY | {"state": "connecting"}),
            "gateway (envoy)",
            Severity.WARNING,
            "not said yet",
            "wait",
        ),
        (
            status(rotated=["registries.main.password"]),
            "configuration",
            Severity.WARNING,
            "registries.main.password is another now",
            "restart the agent to take it",
        ),
        (
            status(held={"a.east.example": HELD}),
            "peer east",
            Severity.WARNING,
            "held: 1: a.east.example: so many at once",
            "`hamlet confirm east`",
        ),
        (
            status(late={"a.east.example": {"since": HELD["since"], "reason": "permission denied"}}),
            "peer east",
            Severity.ERROR,
            "in vain: 1: a.east.example: permission denied",
            "a right to write",
        ),
        (
            status(refused={"a.east.example": "not accepted"}),
            "peer east",
            Severity.WARNING,
            "we refuse: 1: a.east.example: not accepted",
            "peers.east",
        ),
        (
            status(refuses={"a.west.example": "not welcome"}),
            "peer east",
            Severity.WARNING,
            "it refuses: 1: a.west.example: not welcome",
            "operator",
        ),
        (
            status(unpublished=[{"service": "a", "registry": "local", "reason": "no gateway"}]),
            "publish",
            Severity.WARNING,
            "not published: 1: a (local): no gateway",
            "`hamlet status`",
        ),
        (
            status(left=["north"]),
            "peer north",
            Severity.WARNING,
            "it was left, and is still in the configuration",
            "remove peers.north",
        ),
    ],
    ids=[
        "a registry cannot be read",
        "a registry takes no imports",
        "a registry is silent",
        "gateway waits",
        "egress waits",
        "gateway is silent",
        "a password is another",
        "held",
        "not taken by the registry",
        "we refuse",
        "the peer refuses",
        "not published",
        "left and still configured",
    ],
)
def test_what_is_unwell_is_one_finding_with_its_mend(document, subject, severity, message, mend):
    (finding,) = state_findings(document)
    assert (finding.subject, finding.severity) == (subject, severity)
    assert message in finding.message
    assert mend in finding.mend


def test_of_many_services_the_first_are_named_and_the_others_counted():
    refused = {f"s{number}.east.example": f"reason {number}" for number in range(SHOWN + 2)}
    (finding,) = state_findings(status(refused=refused))
    assert f"refuse: {SHOWN + 2}: s0.east.example: reason 0; s1" in finding.message
    assert finding.message.endswith("; and 2 more")
    assert f"reason {SHOWN}" not in finding.message
