"""A peer's bundle was wrong and is mended: the peer is dialled at once, whatever it was left alone for."""

from __future__ import annotations

import shutil

import pytest

from hamlet_core import backoff
from hamlet_core.identity import authority
from tests.support.meshes import Mesh, eventually, running


@pytest.fixture
def never_again(monkeypatch):
    """A dial that failed is not repeated by itself."""
    monkeypatch.setattr(backoff, "delay", lambda *_: 3600.0)


async def test_a_mended_bundle_is_dialled_with_at_once_and_other_peers_are_left_alone(tmp_path, never_again):
    west, east, north = (Mesh(root=tmp_path, name=name) for name in ("west", "east", "north"))
    bundle = east.folder / "west.pem"
    shutil.copy(north.bundle, bundle)
    # West waits to be dialled, so the link can only come from east.
    west.configure({"east": east.peer(address=None)})
    east.configure({"west": west.peer(bundle=str(bundle), trust_domain=None, dns_name="agent.west.example"),
                    "north": north.peer()})  # fmt: skip
    async with running(west), running(east) as agent:
        await eventually(lambda: agent.peer("west")["attempts"] == 1 and agent.peer("north")["attempts"] == 1)
        fresh = bundle.with_suffix(".new")
        shutil.copy(west.bundle, fresh)
        fresh.replace(bundle)
        await agent.state("west", "imports", "live")
        assert agent.peer("north")["attempts"] == 1


async def test_a_certificate_of_ours_is_reason_to_dial_everybody(tmp_path, never_again):
    east, north = (Mesh(root=tmp_path, name=name) for name in ("east", "north"))
    east.configure({"north": north.peer()})
    async with running(east) as agent:
        await eventually(lambda: agent.peer("north")["attempts"] == 1)
        link = agent.agent.links["north"]
        failed = agent.peer("north")["last_error_at"]
        link.attempts = 7  # as after a long time
        authority.issue(east.folder / "pki")
        await eventually(lambda: agent.peer("north")["last_error_at"] != failed)
        await eventually(lambda: link.attempts == 1)
