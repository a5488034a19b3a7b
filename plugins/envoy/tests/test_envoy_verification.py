"""`hamlet verify-adapter envoy`: every check is run on a real Envoy, and what the agent's own folder has stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hamlet_envoy.options import EnvoyOptions
from hamlet_envoy.verification import gateway

from hamlet_core.api import ConfigError
from tests.backends.envoy import short_folder
from tests.support.ports import free_range
from tests.support.verifying import unwell, verified

OPTIONS = {
    "directory": "gateway",
    "threads": 1,
    "drain": "1s",
    "ingress": {"listen": "0.0.0.0:15443", "advertise": ["gateway.west.example:15443"]},
    "egress": {"bind": "0.0.0.0", "advertise": "10.0.0.1"},
}
REMEMBERED = '{"what": "the agent remembers"}'


@pytest.mark.timeout(450)
def test_every_check_is_run_beside_the_configured_gateway(tmp_path: Path) -> None:
    first = free_range(20)
    options = OPTIONS | {"egress": {**OPTIONS["egress"], "ports": f"{first}-{first + 19}"}}
    (tmp_path / "mesh" / "services").mkdir(parents=True)
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "routes.json").write_text(REMEMBERED)
    adapters = {
        "registries": {"main": {"kind": "file", "path": "mesh"}},
        "gateway": {"kind": "envoy", **options},
    }
    code, report = verified(tmp_path, "envoy", adapters, within=400)
    assert (unwell(report, well=("passed",)), code) == ([], 0)
    assert [each["role"] for each in report["subjects"]] == ["gateway"]
    assert (report["failed"], report["not_run"]) == (0, 0)
    assert [path.name for path in (tmp_path / "gateway").iterdir()] == ["routes.json"]
    assert (tmp_path / "gateway" / "routes.json").read_text() == REMEMBERED


def test_an_envoy_that_hamlet_does_not_start_is_refused_with_a_mend() -> None:
    with pytest.raises(ConfigError, match="manage: false") as refused:
        gateway(EnvoyOptions.model_validate(OPTIONS | {"manage": False}))
    assert "manage: true" in refused.value.mend


def test_what_was_made_for_the_checks_is_gone_afterwards() -> None:
    with short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        backend = gateway(EnvoyOptions.model_validate(OPTIONS))
        assert list(folder.iterdir())
        backend.close()
        assert not list(folder.iterdir())


def test_an_agent_loads_the_plugin_without_it() -> None:
    code = (
        "import sys; from hamlet_envoy import plugin; (found,) = plugin.hamlet_adapters();"
        "assert found.backend == 'hamlet_envoy.verification:gateway', found;"
        "assert not {'pytest', 'hamlet_envoy.verification', 'hamlet_core.api.testing'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_its_ingress_listens_where_no_connection_of_others_begins() -> None:
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    backends = [gateway(EnvoyOptions.model_validate(OPTIONS)) for _ in range(5)]
    ports = {int(each._options.ingress.advertise[0].rpartition(":")[2]) for each in backends if each._options.ingress}
    for each in backends:
        each.close()
    assert len(ports) > 1
    assert all(port < outgoing for port in ports)
