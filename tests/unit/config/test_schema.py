from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import Field, SecretStr

from hamlet_core.api import AdapterOptions
from hamlet_core.config.document import parse
from hamlet_core.config.load import load
from hamlet_core.config.model import Config
from hamlet_core.config.schema import schema
from hamlet_core.config.template import template


class Tls(AdapterOptions):
    verify: bool = True


class FileOptions(AdapterOptions):
    path: Path = Field(description="The folder.")


class ConsulOptions(AdapterOptions):
    address: str = "http://127.0.0.1:8500"
    token: SecretStr | None = None
    wait: int = Field(default=30, ge=1)
    tls: Tls = Tls()


SCHEMA = schema({"file": FileOptions, "consul": ConsulOptions})
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
STARTED = template(
    name="west",
    domain="west.example",
    trust_domain="west.example",
    registry={"kind": "file", "path": "registry"},
)


def _uncommented(text: str) -> str:
    """Take every key out of its comment; what is commented within a comment stays so."""
    return re.sub(r"(?m)^( *)#(?=\S|  )", r"\1", text)


MINIMAL: dict[str, Any] = {
    "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
    "identity": {"certificate": "a.crt", "key": "a.key"},
    "registries": {"local": {"kind": "file", "path": "registry"}},
}
EAST = {"bundle": "east.pem", "trust_domain": "east.example"}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema({}))


@pytest.mark.parametrize("text", [STARTED, _uncommented(STARTED)], ids=["started", "uncommented"])
def test_what_init_writes_loads_and_fits_the_schema(text: str, tmp_path: Path) -> None:
    VALIDATOR.validate(parse(text, "hamlet.yaml").data)
    path = tmp_path / "hamlet.yaml"
    path.write_text(text)
    load(path, environ={})


def test_what_init_writes_sets_nothing_but_what_it_must(tmp_path: Path) -> None:
    path = tmp_path / "hamlet.yaml"
    path.write_text(STARTED)
    assert load(path, environ={}).model_dump(exclude_defaults=True, exclude={"registries"}) == {
        "mesh": {"name": "west", "domain": "west.example", "trust_domain": "west.example"},
        "identity": {
            "certificate": tmp_path / "pki/agent.crt",
            "key": tmp_path / "pki/agent.key",
            "bundle": tmp_path / "pki/bundle.pem",
        },
    } | {"admin": {"socket": tmp_path / "hamlet.sock"}}


def test_the_commented_keys_show_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "hamlet.yaml"
    path.write_text(_uncommented(STARTED))
    peer = load(path, environ={}).peers["east"].model_dump(exclude_defaults=True)
    assert peer == {
        "address": "hamlet.east.example:8008",
        "bundle": tmp_path / "peers/east.pem",
        "trust_domain": "east.example",
    }


def _described(section: dict[str, Any]) -> list[tuple[str, str]]:
    return [(key, value.get("description", "")) for key, value in section.get("properties", {}).items()]


def test_what_init_writes_names_and_explains_every_key() -> None:
    sections = [
        SCHEMA,
        *(SCHEMA["$defs"][name] for name in SCHEMA["$defs"] if not name.startswith(("registry", "Ref"))),
    ]
    ours = [pair for section in sections for pair in _described(section) if section.get("title") != "Tls"]
    assert len(ours) > 50
    words = " ".join(re.sub(r"(?m)^[ #]+", " ", STARTED).split())
    assert [key for key, _ in ours if not re.search(rf"(?m)^[ #]*{key}:", STARTED)] == []
    assert [key for key, text in ours if " ".join(text.split()) not in words] == []


ACCEPTED: list[dict[str, Any]] = [
    {},
    {"listen": "${LISTEN:-0.0.0.0:8008}"},
    {"peers": {"east": {**EAST, "retain": "24h", "quiet": 5, "brake": {"share": "30%", "window": "1m30s"}}}},
    {"peers": {"east": {**EAST, "retain": "${RETAIN}", "max_services": "${MANY:-5}", "api": "${API}"}}},
    {"publish": [{"to": "all"}, {"to": ["east"], "select": {"name": "orders"}, "from": "2026-03-01T08:00:00Z"}]},
    {"registries": {"c": {"kind": "consul", "token": "file:token", "wait": "${WAIT}", "tls": {"verify": "${V}"}}}},
    {"gateway": None, "admin": {"http": None}},
]


@pytest.mark.parametrize("changes", ACCEPTED)
def test_the_schema_takes_what_the_loader_takes(changes: dict[str, Any]) -> None:
    VALIDATOR.validate({**MINIMAL, **changes})


REFUSED: list[dict[str, Any]] = [
    {"surprise": 1},
    {"mesh": {"name": "west"}},
    {"registries": {}},
    {"registries": {"x": {"kind": "other"}}},
    {"registries": {"x": {"kind": "file"}}},
    {"registries": {"x": {"kind": "file", "path": "a", "token": "b"}}},
    {"registries": {"x": {"kind": "consul", "wait": 0}}},
    {"registries": {"x": {"kind": "consul", "tls": {"verify": "perhaps"}}}},
    {"peers": {"east": {**EAST, "retain": "soon"}}},
    {"peers": {"east": {**EAST, "brake": {"share": 2}}}},
    {"peers": {"east": {**EAST, "api": "v1"}}},
    {"publish": [{"to": "east"}]},
]


@pytest.mark.parametrize("changes", REFUSED)
def test_the_schema_refuses_what_the_loader_refuses(changes: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**MINIMAL, **changes})


def test_defaults_are_written_as_in_the_file() -> None:
    assert SCHEMA["$defs"]["Peer"]["properties"]["retain"]["default"] == "1d"
    assert SCHEMA["$defs"]["Brake"]["properties"]["share"]["default"] == 0.3


def test_without_adapters_a_registry_of_any_kind_fits() -> None:
    validator = jsonschema.Draft202012Validator(schema({}))
    validator.validate({**MINIMAL, "registries": {"x": {"kind": "other", "anything": 1}}})
    assert not validator.is_valid({**MINIMAL, "registries": {"x": {}}})


def test_the_top_of_the_schema_is_the_whole_configuration() -> None:
    assert set(SCHEMA["properties"]) == set(Config.model_fields)
