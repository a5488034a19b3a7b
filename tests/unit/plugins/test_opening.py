"""From hamlet.yaml to an open port: options, paths, wrappers, and errors that name the key."""

from pathlib import Path

import pluggy
import pytest
from pydantic import BaseModel, SecretStr

from hamlet_core.api import (
    PROJECT,
    AdapterContext,
    AdapterError,
    AdapterOptions,
    AdapterType,
    AgentSpec,
    ConfigError,
    WriteImport,
    hookimpl,
)
from hamlet_core.api.testing import MemoryRegistry, imported_service
from hamlet_core.api.testing.memory_gateway import MemoryGateway
from hamlet_core.config.driven import Egress, Gateway, Registry
from hamlet_core.plugins import Plugins, open_registry
from hamlet_core.plugins.opening import open_gateway

CONTEXT = AdapterContext(
    name="west", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/etc/hamlet")
)


class Tls(BaseModel):
    ca: Path


class Options(AdapterOptions):
    path: Path
    token: SecretStr = SecretStr("")
    retries: int = 3
    tls: tuple[Tls, ...] = ()


class Auditor:
    """A plugin with one wrapper for all registries."""

    def __init__(self, counter=None):
        self.asked, self.counter = [], counter or Counter()

    @hookimpl
    def hamlet_wrappers(self, adapter):
        self.asked.append((adapter.name, adapter.kind, adapter.role))
        return self.counter


class GatewayCounter:
    """Counts the calls it stands around."""

    writes = 0

    @hookimpl(wrapper=True)
    def gateway_publish(self, routes):
        self.writes += 1
        return (yield)


class Counter:
    """Counts the writes it stands around."""

    writes = 0

    @hookimpl(wrapper=True)
    def registry_apply(self, changes):
        self.writes += len(changes)
        return (yield)


def plugins(opened, *others):
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(AgentSpec)
    for plugin in others:
        manager.register(plugin, type(plugin).__name__.lower())
    adapter = AdapterType(kind="sample", role="registry", options=Options, api_version=1, open=opened)
    gateway = AdapterType(kind="sample", role="gateway", options=Options, api_version=1, open=opened)
    return Plugins({"sample": adapter}, {"sample": gateway}, manager)


def registry(**options):
    return Registry(kind="sample", **options)


def test_paths_are_relative_to_the_configuration_file_however_deep():
    seen = []

    def opened(options, context):
        seen.append((options, context))
        return MemoryRegistry().open(context)

    port = open_registry(
        "west", registry(path="mesh", tls=[{"ca": "ca.pem"}, {"ca": "/ca.pem"}]), plugins(opened), CONTEXT
    )
    ((options, context),) = seen
    assert options.path == Path("/etc/hamlet/mesh")
    assert [each.ca for each in options.tls] == [Path("/etc/hamlet/ca.pem"), Path("/ca.pem")]
    assert context is CONTEXT
    assert port.title == "registry 'west' (sample)"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "registries.west.path: this key is required"),
        ({"path": "mesh", "pth": 1}, "registries.west.pth: unknown key"),
        ({"path": "mesh", "tls": [{"ca": "a"}, {}]}, "registries.west.tls[1].ca: this key is required"),
        (
            {"retries": "many"},
            "registries.west.path: this key is required; registries.west.retries: must be a whole number",
        ),
    ],
)
def test_a_wrong_option_is_named_by_its_key(options, sentence):
    with pytest.raises(ConfigError) as refused:
        open_registry("west", registry(**options), plugins(object), CONTEXT)
    assert sentence in str(refused.value)
    assert refused.value.mend == "options of kind 'sample': path, token, retries, tls"


def test_no_secret_is_shown_when_an_option_is_wrong():
    with pytest.raises(ConfigError) as refused:
        open_registry("west", registry(path="mesh", token=["hunter2"], retries="hunter2"), plugins(object), CONTEXT)
    assert "registries.west.token" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    ("raised", "family"), [(ConfigError("no", mend="yes"), ConfigError), (OSError("no"), AdapterError)]
)
def test_an_adapter_that_cannot_be_opened_is_named(raised, family):
    def opened(options, context):
        raise raised

    with pytest.raises(family, match=r"registry 'west' \(sample\): .*no") as refused:
        open_registry("west", registry(path="mesh"), plugins(opened), CONTEXT)
    assert refused.value.__cause__ is raised


async def test_wrappers_of_loaded_plugins_stand_around_the_adapter():
    auditor, memory = Auditor(), MemoryRegistry()
    port = open_registry(
        "west", registry(path="mesh"), plugins(lambda _, context: memory.open(context), auditor), CONTEXT
    )
    await port.apply([WriteImport(imported_service("stock"))])
    await port.close()
    assert auditor.asked == [("west", "sample", "registry")]
    assert auditor.counter.writes == 1


@pytest.mark.parametrize("settings", [Gateway, Egress])
@pytest.mark.parametrize("key", ["gateway", "egress"])
async def test_a_gateway_is_opened_as_a_registry_is(settings, key):
    auditor, seen = Auditor(GatewayCounter()), []

    def opened(options, context):
        seen.append((options, context))
        return MemoryGateway().adapter_type().open(options, context)

    port = open_gateway(key, settings(kind="sample", path="envoy"), plugins(opened, auditor), CONTEXT)
    ((options, context),) = seen
    assert (options.path, context, port.title) == (Path("/etc/hamlet/envoy"), CONTEXT, f"{key} (sample)")
    await port.publish([])
    await port.close()
    assert auditor.asked == [("west", "sample", "gateway")]
    assert auditor.counter.writes == 1


def test_a_gateway_that_cannot_be_opened_is_named_by_its_key():
    def opened(options, context):
        raise OSError("no")

    with pytest.raises(AdapterError, match=r"egress \(sample\): OSError: no"):
        open_gateway("egress", Egress(kind="sample", path="x"), plugins(opened), CONTEXT)
    with pytest.raises(ConfigError, match=r"gateway\.path: this key is required"):
        open_gateway("gateway", Gateway(kind="sample"), plugins(opened), CONTEXT)
