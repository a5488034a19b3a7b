"""The options of gateways, read with their own models: all that is wrong, with its place in hamlet.yaml."""

import pytest

from hamlet_core.config import load
from hamlet_core.config.problems import ConfigProblems
from hamlet_core.plugins.options import adapter_options

PLUGIN = """
    from hamlet_core.api import AdapterOptions, AdapterType, hookimpl

    class Options(AdapterOptions):
        port: int = 8443

    @hookimpl
    def hamlet_adapters():
        return [
            AdapterType(kind="door", role=role, options=Options, api_version=1, open=object)
            for role in ("registry", "gateway")
        ]
"""
CONFIG = """mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: c.pem, key: k.pem}
registries: {main: {kind: door}}
"""


@pytest.fixture
def read(site, tmp_path):
    site.install("hamlet-door", "door", PLUGIN)

    def read(*lines):
        path = tmp_path / "hamlet.yaml"
        path.write_text(CONFIG + "\n".join(lines))
        return adapter_options(load.read(path))

    return read


def test_each_gateway_has_options_of_its_own(read):
    found = read("gateway: {kind: door, port: 1}", "egress: {kind: door, port: 2}")
    assert (found.gateway.port, found.egress.port, found.registries["main"].port) == (1, 2, 8443)


@pytest.mark.parametrize("line", ["", "gateway: {endpoints: ['a.example:1'], sans: [a.example]}"])
def test_what_no_plugin_drives_has_no_options(read, line):
    found = read(line)
    assert (found.gateway, found.egress) == (None, None)


def test_everything_wrong_is_said_at_once_with_file_and_line(read):
    with pytest.raises(ConfigProblems) as refused:
        read("gateway: {kind: door, port: many}", "egress: {kind: dor}")
    found = [(each.where.rpartition(":")[2], each.key) for each in refused.value.problems]
    assert found == [("4", "gateway.port"), ("5", "egress.kind")]
    assert "write 'door'" in refused.value.problems[1].mend
