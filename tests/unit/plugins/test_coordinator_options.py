"""The coordinator in hamlet.yaml: its options are read by its own model, and it is opened with its wrappers."""

import pytest

from hamlet_core.agent.fixed import needs_restart
from hamlet_core.agent.leadership import leadership_of
from hamlet_core.api import AdapterError, ConfigError
from hamlet_core.config import load
from hamlet_core.config.problems import ConfigProblems
from hamlet_core.plugins.options import adapter_options

PLUGIN = """
    from hamlet_core.api import AdapterOptions, AdapterType, Finding, Severity, hookimpl

    class Options(AdapterOptions):
        seat: int = 1

    class Chair:
        def __init__(self, options, context):
            self.seat, self.context = options.seat, context

        @hookimpl
        def coordinator_lead(self, stop):
            yield True

        @hookimpl
        def coordinator_check(self):
            return []

    class Broken:
        def __init__(self, options, context):
            pass

        @hookimpl
        def coordinator_check(self):
            return []

    @hookimpl
    def hamlet_adapters():
        return [
            AdapterType(kind="chair", role="registry", options=Options, api_version=1, open=object),
            AdapterType(kind="chair", role="coordinator", options=Options, api_version=1, open=OPEN),
        ]

    class Louder:
        def __init__(self, adapter):
            self.adapter = adapter

        @hookimpl(wrapper=True)
        def coordinator_check(self):
            found = yield
            return [*found, Finding(subject=self.adapter.name, severity=Severity.OK, message=self.adapter.kind)]

    @hookimpl
    def hamlet_wrappers(adapter):
        return Louder(adapter) if adapter.role == "coordinator" else None
"""
CONFIG = """mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: c.pem, key: k.pem}
registries: {main: {kind: chair}}
"""


@pytest.fixture
def read(site, tmp_path):
    installed = []

    def read(*lines, adapter="Chair"):
        if not installed:
            installed.append(site.install("hamlet-chair", "chair", PLUGIN.replace("OPEN", adapter)))
        path = tmp_path / "hamlet.yaml"
        path.write_text(CONFIG + "\n".join(lines))
        return load.read(path)

    return read


def test_its_options_are_read_with_its_own_model(read):
    assert adapter_options(read("coordinator: {kind: chair, seat: 3}")).coordinator.seat == 3
    assert adapter_options(read()).coordinator is None


def test_what_is_wrong_with_it_is_said_with_file_and_line(read):
    with pytest.raises(ConfigProblems) as refused:
        adapter_options(read("coordinator: {kind: chair, seat: many}"))
    assert [(each.where.rpartition(":")[2], each.key) for each in refused.value.problems] == [
        ("4", "coordinator.seat")
    ]
    with pytest.raises(ConfigProblems, match="coordinator kind 'chare' is not installed"):
        adapter_options(read("coordinator: {kind: chare}"))


async def test_it_is_opened_for_our_mesh_and_may_be_wrapped(read):
    leadership = leadership_of(read("coordinator: {kind: chair}"))
    assert leadership is not None
    assert leadership.port.title == "coordinator (chair)"
    assert [(each.subject, each.message) for each in await leadership.port.check()] == [("coordinator", "chair")]
    await leadership.port.close()


async def test_without_one_there_is_no_leadership(read):
    assert leadership_of(read()) is None


def test_an_adapter_without_its_hooks_is_refused_by_name(read):
    with pytest.raises(AdapterError, match=r"coordinator \(chair\): the adapter does not implement coordinator_lead"):
        leadership_of(read("coordinator: {kind: chair}", adapter="Broken"))


def test_options_that_are_wrong_are_refused_when_it_is_opened(read):
    with pytest.raises(ConfigError, match=r"coordinator\.sit: unknown key"):
        leadership_of(read("coordinator: {kind: chair, sit: 1}"))


@pytest.mark.parametrize("line", ["", "coordinator: {kind: chair, seat: 2}"])
def test_only_a_restart_changes_it(read, line):
    old, new = read("coordinator: {kind: chair}").config, read(line).config
    assert needs_restart(old, new) == ["coordinator"]
    assert needs_restart(old, old) == []
