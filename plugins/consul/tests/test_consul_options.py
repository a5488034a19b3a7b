"""The options: safe defaults, errors that name the key, and a table in the README that is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hamlet_consul.coordinator import ConsulCoordinatorOptions
from hamlet_consul.gateway_options import ConsulGatewayOptions
from hamlet_consul.options import ConsulOptions, Outside
from hamlet_consul.plugin import hamlet_adapters
from pydantic import ValidationError

from hamlet_core.api import AdapterContext
from hamlet_core.cli import main

README = Path(__file__).parent.parent / "README.md"
CONTEXT = AdapterContext(
    name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/etc/hamlet")
)


def test_nothing_needs_to_be_said_for_a_local_agent() -> None:
    settings = ConsulOptions().settings(CONTEXT, consistency="default")
    assert (settings.address, settings.token, settings.timeout) == ("http://127.0.0.1:8500", "", 10.0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"adress": "http://x"}, "adress"),
        ({"address": "x:8500"}, "unix://"),
        ({"address": "https://x", "certificate": "a.pem"}, "go together"),
        ({"ca": "ca.pem"}, "need an https address"),
        ({"wait": "11m"}, "wait"),
        ({"wait": "soon"}, "no duration"),
        ({"wait": "0s"}, "wait"),
        ({"consistency": "strong"}, "consistency"),
        ({"outside": {}}, "either by `kind` or by `service`"),
        ({"outside": {"kind": "mesh-gateway", "service": "gw"}}, "either by `kind` or by `service`"),
    ],
)
def test_a_wrong_option_is_refused_and_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ConsulOptions(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("wait: 0s", "registries.main.wait: must be greater than 0s"),
        ("timeout: 25h", "registries.main.timeout: must be at most 1d"),
        ("wait: soon", "registries.main.wait: 'soon' is no duration: write for example 30s"),
        ("adress: x", "registries.main.adress: unknown key"),
    ],
)
def test_an_operator_is_told_the_line_the_key_and_the_limit(tmp_path: Path, given: str, says: str) -> None:
    path = tmp_path / "hamlet.yaml"
    path.write_text(
        "mesh: {name: west, domain: west.example, trust_domain: west.example}\n"
        "identity: {certificate: a.crt, key: a.key}\n"
        f"registries: {{main: {{kind: consul, {given}}}}}\n"
    )
    ran = CliRunner().invoke(main, ["-c", str(path), "config", "check"])
    assert ran.exit_code != 0
    assert f"hamlet.yaml:3: {says}" in ran.output


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("1m30s", 90), (5, 5), ("PT1M", None)])
def test_durations_are_read_as_the_core_reads_them(text: object, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValidationError):
            ConsulOptions(wait=text)  # type: ignore[arg-type]
    else:
        assert ConsulOptions(wait=text).wait.total_seconds() == seconds  # type: ignore[arg-type]


def test_paths_lie_beside_the_configuration() -> None:
    given = {"address": "https://x", "ca": "ca.pem", "certificate": "/run/c.pem", "key": "c.key"}
    settings = ConsulOptions(**given).settings(CONTEXT, consistency="stale")  # type: ignore[arg-type]
    assert (settings.ca, settings.certificate) == (Path("/etc/hamlet/ca.pem"), Path("/run/c.pem"))
    assert settings.consistency == "stale"


def test_the_token_is_not_shown() -> None:
    assert "hidden-in-here" not in repr(ConsulOptions(token="hidden-in-here"))  # type: ignore[arg-type]


def test_kind_consul_is_a_registry_a_gateway_and_a_coordinator() -> None:
    found = [(adapter.kind, adapter.role, adapter.options) for adapter in hamlet_adapters()]
    assert found == [
        ("consul", "registry", ConsulOptions),
        ("consul", "gateway", ConsulGatewayOptions),
        ("consul", "coordinator", ConsulCoordinatorOptions),
    ]


def test_the_readme_has_every_option_with_its_default_and_meaning() -> None:
    lines = README.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    wanted = [
        f"| `{prefix}{name}` | {shown(field.get_default())} | {field.description} |"
        for prefix, model in (("", ConsulOptions), ("outside.", Outside))
        for name, field in model.model_fields.items()
    ]
    assert rows[: len(wanted)] == wanted


def shown(value: Any) -> str:
    """A default as a person would write it."""
    if value is None or (hasattr(value, "get_secret_value") and not value.get_secret_value()) or value == "":
        return "none"
    if hasattr(value, "total_seconds"):
        seconds = int(value.total_seconds())
        return f"`{seconds // 60}m`" if seconds % 60 == 0 and seconds > 60 else f"`{seconds}s`"
    return f"`{value}`"
