"""What a person sees of `hamlet status` and `hamlet services`; the documents are an agent's, with changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from hamlet_core.cli import main, operate

LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()
LIVE = {"state": "live", "since": None, "error": "", "mend": ""}
CHECK = {"at": None, "errors": 0, "first": ""}
REGISTRY = {"name": "main", "kind": "file", "publishing": LIVE, "importing": LIVE, "check": CHECK}
IMPORTS = {"state": "live", "since": None, "offered": 1, "standing": 1, "pending": 0, "retried": {}, "rejected": {},
           "aliases": {}, "held": {}, "lost_since": None, "kept_until": None}  # fmt: skip
EXPORTS = {"state": "live", "since": None, "offered": 0, "lag": 0, "rejected": {}}
PEER = {"name": "west", "imports": IMPORTS, "exports": EXPORTS, "last_error": "", "not_linked": ""}
STATUS = {
    "mesh": "east", "trust_domain": "east.example", "listen": ":8008", "started": None, "ready": True,
    "not_ready": "", "identity_expires": LATER, "unusable": [], "coordinator": None, "registries": [REGISTRY],
    "gateway": None, "egress": None, "peers": [PEER], "left": [], "unpublished": [], "orphans": [],
    "refused_callers": 0, "last_refusal": "", "last_refusal_at": None, "rotated": [], "reload_refused": "",
}  # fmt: skip


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command on a document; returns what it prints."""

    def show(document: dict[str, Any], command: str = "status") -> str:
        monkeypatch.setattr(operate, "ask", lambda *_, **__: document)
        return CliRunner().invoke(main, [command], catch_exceptions=False).stdout

    return show


def registry(check: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return STATUS | {"registries": [REGISTRY | {"check": CHECK | check} | changes]}


def peer(imports: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return STATUS | {"peers": [PEER | {"imports": IMPORTS | imports} | changes]}


def test_what_is_well_is_tables_alone(shown: Any) -> None:
    assert "hamlet check" not in shown(STATUS)
    assert shown(STATUS).splitlines()[-1].split() == ["exports", "live", "0", "0"]


def test_faults_that_a_registry_finds_in_itself_are_counted_and_the_first_is_told(shown: Any) -> None:
    said = shown(registry({"errors": 2, "first": "a.yaml:1: no name"}))
    assert "registry main has 2 errors, the first: a.yaml:1: no name; see `hamlet check`" in said
    assert "has 1 error, the first: x" in shown(registry({"errors": 1, "first": "x"}))


def test_why_a_registry_is_out_of_reach_is_told_once(shown: Any) -> None:
    silent = LIVE | {"state": "silent", "error": "out of reach"}
    said = shown(registry({"errors": 1, "first": "out of reach"}, publishing=silent))
    assert said.count("out of reach") == 1


@pytest.mark.parametrize(
    ("of_whom", "in_force", "said"),
    [
        ("west", True, "the bundle of west is not usable, the last good one is in force: `hamlet check`"),
        ("west", False, "the bundle of west is not usable: `hamlet check`"),
        (None, True, "our bundle is not usable, the last good one is in force"),
    ],
)
def test_a_file_that_is_not_usable_is_told(shown: Any, of_whom: str | None, in_force: bool, said: str) -> None:
    file = {"peer": of_whom, "what": "bundle", "file": "x", "problem": "garbage", "in_force": in_force}
    assert said in shown(STATUS | {"unusable": [file]})


def test_a_peer_that_was_left_is_not_one_that_was_never_configured(shown: Any) -> None:
    said = shown(STATUS | {"peers": [], "left": ["west"]})
    assert "west was left; remove peers.west from the configuration" in said
    assert "no peers yet" not in said
    assert "no peers yet" in shown(STATUS | {"peers": []})


@pytest.mark.parametrize(
    ("state", "until", "said"),
    [
        ("stale", "2026-11-24T17:54:03.000+00:00", "are kept until 2026-11-24 17:54 UTC (`retain`)"),
        ("stale", None, "are kept until it is back (`retain` is 0)"),
        ("syncing", None, "are kept until it has told them all"),
    ],
)
def test_how_long_services_of_a_lost_peer_are_kept_is_told(
    shown: Any, state: str, until: str | None, said: str
) -> None:
    lost = (datetime.now(UTC) - timedelta(hours=3, minutes=5)).isoformat()
    assert f"west: lost 3h 5m ago; its services {said}" in shown(
        peer({"state": state, "lost_since": lost, "kept_until": until})
    )


def test_a_link_that_failed_never_says_what_it_waits_for(shown: Any) -> None:
    assert "waiting to be dialled" in shown(peer({"state": "connecting"}, not_linked="waiting to be dialled"))
    assert "refused" in shown(peer({"state": "connecting"}, last_error="refused", not_linked="refused"))


@pytest.mark.parametrize(("number", "said"), [(1, "1 caller refused"), (2, "2 callers refused")])
def test_refused_callers_have_an_age(shown: Any, number: int, said: str) -> None:
    at = (datetime.now(UTC) - timedelta(hours=2, minutes=1)).isoformat()
    refused = {"refused_callers": number, "last_refusal": "who?", "last_refusal_at": at}
    assert f"{said}, the last 2h 1m ago: who?" in shown(STATUS | refused)


def test_where_nothing_is_published_or_imported_that_is_said(shown: Any) -> None:
    assert shown({"published": [], "imported": []}, "services") == "nothing is published\nnothing is imported\n"


def test_an_import_that_is_retained_says_until_when(shown: Any) -> None:
    row = {
        "registry": "main", "peer": "west", "service": "a", "local_name": "a", "reached_at": [], "state": "retained",
        "reason": "its peer is lost", "kept_until": "2026-11-24T17:54:03.000+00:00",
    }  # fmt: skip
    said = shown({"published": [], "imported": [row]}, "services")
    assert "its peer is lost; kept until 2026-11-24 17:54 UTC (`retain`)" in said
