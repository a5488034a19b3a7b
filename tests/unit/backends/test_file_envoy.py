"""An Envoy has what it was told when its /config_dump shows just that, active and of the version that was said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backends.consul_xds import TerminatingEnvoy
from tests.backends.file_envoy import FileEnvoy, Said, envoy_binary, lacking

SAID = Said(clusters=({"name": "stock"},), listeners=({"name": "in"},), secrets=({"name": "own"},))


def version(folder: Path, file: str) -> str:
    return str(json.loads((folder / file).read_text())["version_info"])


@pytest.fixture
def dumps(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What Envoy shows that has `SAID`, by the last word of the type."""
    FileEnvoy(tmp_path, "any").say(SAID)
    bodies: dict[str, dict[str, Any]] = {
        "BootstrapConfigDump": {},
        "ClustersConfigDump": {
            "version_info": version(tmp_path, "cds.json"),
            "static_clusters": [{"cluster": {"name": "always"}}],
            "dynamic_active_clusters": [{"cluster": {"name": "stock"}}],
        },
        "ListenersConfigDump": {
            "version_info": version(tmp_path, "lds.json"),
            "dynamic_listeners": [{"name": "in", "active_state": {}}],
        },
        "SecretsConfigDump": {
            "dynamic_active_secrets": [
                {"name": "own", "version_info": version(tmp_path, "sds-own.json")},
                {"name": "of what drains", "version_info": "another"},
            ],
        },
    }
    return {kind: {"@type": f"type.googleapis.com/envoy.admin.v3.{kind}", **body} for kind, body in bodies.items()}


@pytest.mark.parametrize("drained", [True, False])
def test_an_envoy_that_shows_what_was_said_lacks_nothing(dumps: dict[str, dict[str, Any]], drained: bool) -> None:
    assert lacking(dumps.values(), SAID, drained=drained) == ""


@pytest.mark.parametrize(
    ("kind", "shown", "part"),
    [
        ("ClustersConfigDump", {"version_info": "older"}, "clusters"),
        ("ClustersConfigDump", {"dynamic_active_clusters": []}, "clusters"),
        ("ClustersConfigDump", {"dynamic_warming_clusters": [{"cluster": {"name": "stock"}}]}, "warming"),
        ("ListenersConfigDump", {"version_info": "older"}, "listeners"),
        ("ListenersConfigDump", {"dynamic_listeners": []}, "listeners"),
        ("ListenersConfigDump", {"dynamic_listeners": [{"name": "in", "warming_state": {}}]}, "listeners"),
        (
            "ListenersConfigDump",
            {"dynamic_listeners": [{"name": "in", "active_state": {}, "warming_state": {}}]},
            "listeners",
        ),
        (
            "ListenersConfigDump",
            {"dynamic_listeners": [{"name": "in", "active_state": {}, "error_state": {}}]},
            "listeners",
        ),
        (
            "ListenersConfigDump",
            {"dynamic_listeners": [{"name": "in", "active_state": {}}, {"error_state": {}}]},
            "listeners",
        ),
        (
            "ListenersConfigDump",
            {"dynamic_listeners": [{"name": name, "active_state": {}} for name in ("in", "out")]},
            "listeners",
        ),
        ("SecretsConfigDump", {"dynamic_active_secrets": [{"name": "own", "version_info": "older"}]}, "secrets"),
        ("SecretsConfigDump", {"dynamic_active_secrets": []}, "secrets"),
    ],
)
@pytest.mark.parametrize("drained", [True, False])
def test_what_is_not_there_or_older_or_warms_is_lacking(
    dumps: dict[str, dict[str, Any]], kind: str, shown: dict[str, Any], part: str, drained: bool
) -> None:
    dumps[kind] |= shown
    assert lacking(dumps.values(), SAID, drained=drained).startswith(f"of {part} Envoy has ")
    others = {"clusters", "listeners", "secrets", "warming"} - {part}
    assert lacking(dumps.values(), SAID, drained=drained, parts=others) == ""


@pytest.mark.parametrize(
    "listeners",
    [
        [{"name": "in", "active_state": {}, "draining_state": {}}],
        [{"name": "in", "active_state": {}}, {"name": "out", "draining_state": {}}],
    ],
)
def test_what_drains_counts_where_it_is_to_be_gone(
    dumps: dict[str, dict[str, Any]], listeners: list[dict[str, Any]]
) -> None:
    dumps["ListenersConfigDump"]["dynamic_listeners"] = listeners
    assert lacking(dumps.values(), SAID, drained=False) == ""
    assert lacking(dumps.values(), SAID, drained=True).startswith("of listeners Envoy has ")


def test_an_envoy_that_was_told_nothing_has_no_secrets_to_show(tmp_path: Path) -> None:
    envoy = FileEnvoy(tmp_path, "any")
    envoy.say(Said())
    dumps = [
        {"@type": f"envoy.admin.v3.{kind}", "version_info": version(tmp_path, file)}
        for kind, file in (("ClustersConfigDump", "cds.json"), ("ListenersConfigDump", "lds.json"))
    ]
    assert lacking(dumps, Said(), drained=True) == ""


def test_what_is_said_again_has_its_version_again(tmp_path: Path) -> None:
    envoy, versions = FileEnvoy(tmp_path, "any"), []
    for said in (SAID, Said(), SAID):
        envoy.say(said)
        versions.append([version(tmp_path, file) for file in ("cds.json", "lds.json")])
    assert versions[0] == versions[2] != versions[1]


@pytest.fixture
def without_envoy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Envoy is on this machine."""
    monkeypatch.setitem(sys.modules, "envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_an_envoy_of_the_path_serves_where_none_is_installed(without_envoy: None, tmp_path: Path) -> None:
    (tmp_path / "envoy").touch(mode=0o755)
    assert envoy_binary() == tmp_path / "envoy"


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_an_envoy_the_test_is_not_run_or_fails_and_what_began_ends(
    without_envoy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[Exception]
) -> None:
    monkeypatch.setenv("HAMLET_REQUIRE_BACKENDS", required)
    envoy = TerminatingEnvoy("127.0.0.1:1", "any", tmp_path)
    try:
        with pytest.raises(outcome, match=r"NOT RUN: a real Envoy is needed"):
            envoy.start()
    finally:
        envoy.close()
