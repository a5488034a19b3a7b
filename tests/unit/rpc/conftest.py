from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hamlet_core import backoff
from hamlet_core.config.model import Peer
from hamlet_core.publish.catalog import Catalog, Payload
from tests.support.sessions import ONE, TWO, Sink, service


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def catalog() -> Catalog:
    """A catalog whose audience `all` has the services a, b and c."""
    made = Catalog(lambda each: Payload(v1alpha1=ONE.pack(each), v1alpha2=TWO.pack(each)), least_tombstones=2)
    for name in ("a", "b", "c"):
        made.put("all", service(name))
    return made


@pytest.fixture
def peer_settings(tmp_path: Any) -> Callable[..., Peer]:
    def make(**changes: Any) -> Peer:
        known = {"address": "127.0.0.1:1", "bundle": tmp_path / "b.pem", "trust_domain": "east.example"}
        return Peer.model_validate(known | changes)

    return make


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No delay before a retry."""
    monkeypatch.setattr(backoff, "delay", lambda *_, **__: 0.0)
