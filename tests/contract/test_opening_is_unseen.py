"""`AdapterType.open` asks, reads, writes and starts nothing: commands open adapters beside a running agent."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hamlet_core.api import AdapterContext
from hamlet_core.plugins import installed, load

OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("file", "registry"): {"path": "mesh"},
    ("file", "coordinator"): {"path": "leaders"},
    ("consul", "registry"): {"address": "http://consul.invalid:8500", "token": "t"},
    ("consul", "gateway"): {"address": "http://consul.invalid:8500", "directory": "consul"},
    ("consul", "coordinator"): {"address": "http://consul.invalid:8500"},
    ("istio", "registry"): {"kubeconfig": "no.kubeconfig"},
    ("istio", "gateway"): {"kubeconfig": "no.kubeconfig", "egress": {"consumers": {"mesh": {"app": "a"}}}},
    ("istio", "coordinator"): {"kubeconfig": "no.kubeconfig", "namespace": "mesh"},
    ("envoy", "gateway"): {"directory": "envoy", "egress": {"bind": "127.0.0.1", "advertise": "192.0.2.1"}},
}
SEEN = {"socket.connect", "socket.bind", "subprocess.Popen", "_thread.start_new_thread", "os.mkdir", "os.rename"}
Look = Callable[[], contextlib.AbstractContextManager[list[str]]]


@pytest.fixture(scope="module")
def look() -> Look:
    """What is opened, started and connected to, as the interpreter reports it; imports are left out."""
    into: list[list[str]] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        of_python = event == "open" and str(arguments[0]).endswith((".py", ".pyc", ".so"))
        if into and (event in SEEN or (event == "open" and not of_python)):
            into[-1].append(f"{event} {arguments!r:.200}")

    sys.addaudithook(hook)  # for good: there is no way to take one out

    @contextlib.contextmanager
    def looking() -> Iterator[list[str]]:
        into.append([])
        try:
            yield into[-1]
        finally:
            into.pop()

    return looking


def test_every_adapter_of_the_repository_is_looked_at() -> None:
    roles = {"registry", "gateway", "coordinator"}
    assert {(each.name, role) for each in installed() for role in roles & {*each.provides}} == set(OPTIONS)


@pytest.mark.parametrize(("kind", "role"), OPTIONS)
def test_opening_and_closing_is_unseen(kind: str, role: str, tmp_path: Path, look: Look) -> None:
    plugins = {
        "registry": lambda: load({kind}).adapters,
        "gateway": lambda: load(gateways={kind}).gateways,
        "coordinator": lambda: load(coordinators={kind}).coordinators,
    }
    adapter_type = plugins[role]()[kind]
    given = OPTIONS[kind, role]
    paths = {key: tmp_path / given[key] for key in ("path", "kubeconfig", "directory") if key in given}
    options = adapter_type.options.model_validate({**given, **paths})
    context = AdapterContext(
        name="main", mesh="west", domain="west.example", trust_domain="west.example", directory=tmp_path
    )
    with look() as found:
        adapter = adapter_type.open(options, context)
        getattr(adapter, f"{role}_close")()
        (tmp_path / "proof").write_text("that it looks")
    (proof,) = found
    assert proof.startswith(f"open ('{tmp_path}/proof', 'w'")
    assert [path.name for path in tmp_path.iterdir()] == ["proof"]
