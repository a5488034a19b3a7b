"""What a restart is needed for, and what of that is a reference with another value."""

from __future__ import annotations

import pytest

from hamlet_core.agent.fixed import needs_restart, rotated, with_fixed
from hamlet_core.config import load

CONFIG = """
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: c.pem, key: k.pem}
registries:
  main: {kind: redis, password: "file:main.pw", urls: ["redis://a", "${URL}"], tls: {key: "file:tls.pw"}}
gateway: {kind: envoy, token: "file:gateway.pw"}
coordinator: {kind: consul, token: "file:lead.pw"}
log: {level: "${LEVEL:-info}"}
"""
FILES = ("main.pw", "tls.pw", "gateway.pw", "lead.pw", "other.pw")


@pytest.fixture
def read(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text("before")

    def read(text=CONFIG, *, url="redis://b", level="info", **contents):
        for name, content in contents.items():
            (tmp_path / f"{name}.pw").write_text(content)
        (tmp_path / "hamlet.yaml").write_text(text)
        return load.read(tmp_path / "hamlet.yaml", environ={"URL": url, "LEVEL": level}).config

    return read


def test_the_same_again_is_no_change(read):
    assert needs_restart(read(), read()) == rotated(read(), read()) == []


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"main": "after"}, ["registries.main.password"]),
        ({"tls": "after"}, ["registries.main.tls.key"]),
        ({"url": "redis://c"}, ["registries.main.urls[1]"]),
        ({"gateway": "after"}, ["gateway.token"]),
        ({"lead": "after", "main": "after"}, ["registries.main.password", "coordinator.token"]),
        ({"level": "debug"}, ["log.level"]),
    ],
)
def test_another_value_behind_a_reference_blocks_nothing_and_is_named(read, values, keys):
    before = read()
    after = read(**values)
    assert needs_restart(before, after) == []
    assert rotated(before, after) == keys
    assert with_fixed(before, after) == before, "what was opened goes on as it is"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("file:main.pw", "file:other.pw", "registries"),
        ('"file:main.pw"', "before2", "registries"),
        ("kind: redis", "kind: redis, db: 1", "registries"),
        ('["redis://a", ', "[", "registries"),
        ("file:gateway.pw", "file:other.pw", "gateway"),
        ("redis://a", "redis://d", "registries"),
    ],
)
def test_what_is_written_otherwise_needs_a_restart_as_before(read, old, new, key):
    before = read()
    after = read(CONFIG.replace(old, new), main="after", other="another")
    assert needs_restart(before, after) == [key]


def test_a_reference_in_place_of_its_value_is_no_change(read):
    before = read()
    assert needs_restart(before, read(CONFIG.replace('"file:main.pw"', "before"))) == []


def test_no_value_is_shown(read):
    before = read()
    assert "after" not in repr(rotated(before, read(main="after")))
