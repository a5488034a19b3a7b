"""Plugins and ports for one test each."""

import sys
import textwrap
from pathlib import Path

import pytest

from hamlet_core.api import AdapterContext, hookimpl
from hamlet_core.api.testing import MemoryRegistry
from hamlet_core.plugins import RegistryPort

CONTEXT = AdapterContext(
    name="west", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
)


ADAPTER = """
    from hamlet_core.api import AdapterOptions, AdapterType, hookimpl

    @hookimpl
    def hamlet_adapters():
        return [
            AdapterType(
                kind="{kind}", role="registry", options=AdapterOptions, api_version=1, open=object, summary="a sample"
            )
        ]
"""


class Site:
    """A folder on sys.path with distributions as pip would leave them: modules and their dist-info."""

    def __init__(self, folder):
        self.folder = folder
        self.modules = []

    def install(self, distribution, module, source, *, name=None, version="1.0", entry_points=None, metadata=True):
        """Install a distribution whose entry point `name` (its module's by default) is `module`."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points or f"[hamlet]\n{name or module} = {module}\n")
        if source is not None:
            (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        self.modules.append(module)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty site, alone on sys.path beside the standard library and what the tests import."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr("importlib.metadata.distributions", _only_in(folder))
    found = Site(folder)
    yield found
    for module in found.modules:
        sys.modules.pop(module, None)


def _only_in(folder):
    """Look for distributions in `folder` alone: what else is installed is no part of these tests."""
    from importlib.metadata import distributions

    return lambda: distributions(path=[str(folder)])


@pytest.fixture
def memory():
    return MemoryRegistry()


@pytest.fixture
async def make_port(memory):
    """Make ports on the memory, with parts of its adapter replaced; all are closed at the end."""
    ports = []

    def make(wrappers=None, *, call_timeout=20.0, stop_timeout=5.0, **hooks):
        adapter = memory.open(CONTEXT)
        for name, function in hooks.items():
            function.__name__ = name
            setattr(adapter, name, hookimpl(function))
        ports.append(
            RegistryPort(
                "west",
                memory.adapter_type(),
                adapter,
                wrappers or {},
                call_timeout=call_timeout,
                stop_timeout=stop_timeout,
            )
        )
        return ports[-1]

    yield make
    for port in ports:
        await port.close()
