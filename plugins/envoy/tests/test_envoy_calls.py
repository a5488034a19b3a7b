"""A call through both gateways: egress, mTLS, ingress, service."""

from __future__ import annotations

from collections.abc import Callable

from tests.backends.envoy import Mesh, Server, send


def joined(west: Mesh, east: Mesh) -> None:
    west.trust(east.peer())
    east.trust(west.peer())


def test_bytes_cross_from_one_mesh_to_the_other(
    make_mesh: Callable[..., Mesh], server: Callable[..., Server]
) -> None:
    west, east, echo = make_mesh("west"), make_mesh("east"), server()
    joined(west, east)
    assert west.gateway.gateway_publish((west.publishes("orders", echo, to=["east"]),)) == {}
    (port,) = east.imports(west.offers("orders"))
    assert send(port) == b"hello"
