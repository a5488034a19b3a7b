"""Every write is in the trail, with what came of it; the adapter and the core notice nothing."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pluggy
import pytest
import structlog
from hamlet_audit import plugin

from hamlet_core.api import (
    PROJECT,
    AdapterContext,
    AgentSpec,
    ConfigError,
    RegistrySpec,
    RegistryUnavailable,
    RemoveImport,
    Status,
    Wrapped,
    WriteImport,
    hookimpl,
)
from hamlet_core.api.testing import MemoryRegistry, imported_service

LOST = datetime(2024, 5, 17, 8, 30, 15, tzinfo=UTC)
CONTEXT = AdapterContext(
    name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
)
Trail = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "audit.jsonl"
    monkeypatch.setenv("HAMLET_AUDIT_FILE", str(path))
    return path


@pytest.fixture
def trail(file: Path) -> Trail:
    """What the trail has, without the times, which are checked to be times of now."""

    def read() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        for line in lines:
            age = datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))
            assert 0 <= age.total_seconds() < 3600
            assert (line.pop("registry"), line.pop("kind")) == ("main", "memory")
        return lines

    return read


@pytest.fixture
def memory() -> MemoryRegistry:
    return MemoryRegistry()


def audited(adapter: object) -> pluggy.HookRelay:
    """The hooks of an adapter with the audit around them, as the core puts them together."""
    agent = pluggy.PluginManager(PROJECT)
    agent.add_hookspecs(AgentSpec)
    agent.register(plugin)
    (wrapper,) = agent.hook.hamlet_wrappers(adapter=Wrapped(name="main", kind="memory", role="registry"))
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrySpec)
    manager.register(adapter)
    manager.register(wrapper)
    manager.check_pending()
    return manager.hook


@pytest.fixture
def hooks(memory: MemoryRegistry, file: Path) -> pluggy.HookRelay:
    return audited(memory.open(CONTEXT))


def test_it_is_found_as_audit() -> None:
    (found,) = entry_points(group="hamlet", name="audit")
    assert found.load() is plugin


def test_a_write_and_a_removal_are_noted_with_their_outcomes(
    hooks: pluggy.HookRelay, memory: MemoryRegistry, trail: Trail
) -> None:
    stock, mail = imported_service("stock"), imported_service("mail")
    memory.add_foreign(mail)
    outcomes = hooks.registry_apply(changes=[WriteImport(stock), WriteImport(mail)])
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.REJECTED]
    hooks.registry_apply(changes=[RemoveImport(stock.key, stock.local_name)])
    about = {"peer": "east", "service": "stock.east.example", "local_name": "stock.east.example"}
    others = {"peer": "east", "service": "mail.east.example", "local_name": "mail.east.example"}
    reason = "mail.east.example belongs to someone else"
    assert trail() == [
        {"action": "write", **about, "digest": stock.digest, "outcome": "applied", "reason": ""},
        {"action": "write", **others, "digest": mail.digest, "outcome": "rejected", "reason": reason},
        {"action": "remove", **about, "outcome": "applied", "reason": ""},
    ]


def test_a_call_that_fails_is_noted_for_every_change_and_still_fails(
    hooks: pluggy.HookRelay, memory: MemoryRegistry, trail: Trail
) -> None:
    services = [imported_service("stock"), imported_service("mail")]
    with memory.outage(), pytest.raises(RegistryUnavailable, match="out of reach"):
        hooks.registry_apply(changes=[WriteImport(each) for each in services])
    failed = ("failed", "RegistryUnavailable: the memory is out of reach")
    assert [(line["service"], line["outcome"], line["reason"]) for line in trail()] == [
        (each.service.name, *failed) for each in services
    ]


def test_a_lost_peer_and_its_return_are_noted(hooks: pluggy.HookRelay, memory: MemoryRegistry, trail: Trail) -> None:
    assert hooks.registry_mark_peer(peer="east", lost_since=LOST) is True
    assert hooks.registry_mark_peer(peer="east", lost_since=None) is True
    with memory.outage(), pytest.raises(RegistryUnavailable):
        hooks.registry_mark_peer(peer="east", lost_since=None)
    mark = {"action": "mark_peer", "peer": "east"}
    assert trail() == [
        {**mark, "lost_since": "2024-05-17T08:30:15+00:00", "outcome": "applied", "reason": ""},
        {**mark, "lost_since": None, "outcome": "applied", "reason": ""},
        {
            **mark,
            "lost_since": None,
            "outcome": "failed",
            "reason": "RegistryUnavailable: the memory is out of reach",
        },
    ]


def test_reading_leaves_no_trace(hooks: pluggy.HookRelay, trail: Trail) -> None:
    assert hooks.registry_imports() == []
    assert len(hooks.registry_check()) == 1
    assert trail() == []


def test_a_change_without_an_outcome_is_noted_too(file: Path, trail: Trail) -> None:
    class Silent:
        @hookimpl
        def registry_apply(self, changes: object) -> list[object]:
            return []

    assert audited(Silent()).registry_apply(changes=[WriteImport(imported_service("stock"))]) == []
    assert [(line["outcome"], line["reason"]) for line in trail()] == [("failed", "the adapter gave no outcome")]


def test_the_trail_is_private_appended_to_and_can_be_moved_away(hooks: pluggy.HookRelay, file: Path) -> None:
    hooks.registry_mark_peer(peer="east", lost_since=LOST)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    hooks.registry_mark_peer(peer="east", lost_since=None)
    assert len(file.read_text().splitlines()) == 2
    file.rename(file.with_suffix(".1"))
    hooks.registry_mark_peer(peer="east", lost_since=LOST)
    assert len(file.read_text().splitlines()) == 1


def test_a_trail_that_cannot_be_written_any_more_is_said_in_the_log_and_stops_nothing(
    hooks: pluggy.HookRelay, file: Path, memory: MemoryRegistry
) -> None:
    file.mkdir()
    stock = imported_service("stock")
    with structlog.testing.capture_logs() as logs:
        (outcome,) = hooks.registry_apply(changes=[WriteImport(stock)])
    assert outcome.status is Status.APPLIED
    assert set(memory.imported()) == {stock.key}
    (log,) = logs
    assert (log["log_level"], log["event"]) == ("error", "the audit trail cannot be written")
    assert "stock.east.example" in log["lost"]


@pytest.mark.parametrize("path", [None, "", "folder", "no/such/folder/audit.jsonl"])
def test_without_a_trail_that_can_be_written_the_agent_does_not_start(
    path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HAMLET_AUDIT_FILE", raising=False)
    if path is not None:
        monkeypatch.setenv("HAMLET_AUDIT_FILE", path)
    with pytest.raises(ConfigError, match="HAMLET_AUDIT_FILE") as error:
        plugin.hamlet_wrappers(Wrapped(name="main", kind="memory", role="registry"))
    assert error.value.mend


@pytest.mark.parametrize("there", [True, False])
def test_asking_makes_and_changes_no_file(there: bool, file: Path) -> None:
    if there:
        file.write_text("{}\n")
    before = [(path.name, path.stat().st_mtime_ns) for path in file.parent.iterdir()]
    assert plugin.hamlet_wrappers(Wrapped(name="main", kind="memory", role="registry")) is not None
    assert [(path.name, path.stat().st_mtime_ns) for path in file.parent.iterdir()] == before


def test_a_folder_that_nothing_can_be_made_in_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != file.parent)  # as for whoever is not root
    with pytest.raises(ConfigError, match=r"cannot write .*audit.jsonl \(HAMLET_AUDIT_FILE\): Permission denied"):
        plugin.hamlet_wrappers(Wrapped(name="main", kind="memory", role="registry"))


def test_a_gateway_is_not_wrapped() -> None:
    assert plugin.hamlet_wrappers(Wrapped(name="gateway", kind="envoy", role="gateway")) is None
