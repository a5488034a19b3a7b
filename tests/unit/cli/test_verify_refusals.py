"""`hamlet verify-adapter`: what is wrong with a command, a configuration, a plugin or a machine is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.toy_runs import ALL, TOYS, Verify


@pytest.mark.parametrize(
    ("arguments", "config", "said"),
    [
        (["consul"], "", "nothing is of kind 'consul'; there are: registry local (file)"),
        (["toy"], TOYS.replace("kind: toy", "kind: file, path: m"), "registry local (file), registry toy (file)"),
        (["toy", "--role", "gateway"], TOYS, "no gateway is of kind 'toy'; there are: registry local"),
        (["toy", "--role", "nonsense"], TOYS, "is not one of 'registry', 'gateway', 'coordinator'"),
        (["file", "--registry", "other"], "", "registry 'other' is not there; there are: registry local (file)"),
        (["toy", "--registry", "local"], TOYS, "registry 'local' is of kind 'file', not 'toy'"),
        (["toy", "--registry", "toy", "--role", "gateway"], ALL, "and --role gateway leaves them out"),
        (["toy"], "  toy: {kind: toy, falt: x}\n", "hamlet.yaml:5: registries.toy.falt: unknown key"),
        (["toy"], "gateway: {kind: toy, falt: x}\n", "hamlet.yaml:5: gateway.falt: unknown key"),
        (["toy"], "coordinator: {kind: toy, falt: x}\n", "hamlet.yaml:5: coordinator.falt: unknown key"),
        (["nosuch"], "  more: {kind: nosuch}\n", "registry kind 'nosuch' is not installed"),
        (["file", "--config", "none.yaml"], "", "none.yaml: there is no such file"),
        (["file", "--backend", "nowhere:make"], "", "'nowhere:make' cannot be made: ModuleNotFoundError"),
        (["file", "--backend", "toy_module"], "", "'toy_module' cannot be made"),
        (["file", "--backend", "toy_module:refuses"], "", "cannot be made: Skipped: needs a rack of servers"),
        (["file", "--backend", "toy_module:nobody"], "", "is None and no hamlet_core.api.testing.RegistryBackend"),
        (
            ["toy", "--role", "gateway", "--backend", "toy_module:make"],
            ALL,
            "no hamlet_core.api.testing.GatewayBackend",
        ),
        (
            ["toy", "--role", "coordinator", "--backend", "toy_module:make"],
            ALL,
            "and no hamlet_core.api.testing.Coord",
        ),
        (
            ["toy", "--backend", "toy_module:make"],
            ALL,
            "--backend is for one role, and registry toy (toy) and gateway",
        ),
        (["toy", "--backend", "toy_module:make", "--no-backend"], TOYS, "and --no-backend wants none"),
        (
            ["file"],
            "peers:\n  hamletverify-east: {bundle: b.pem, trust_domain: east.example}\n",
            "'hamletverify-east' is the name of a peer here",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_run(
    verify: Verify, tmp_path: Path, arguments: list[str], config: str, said: str
) -> None:
    done = verify(*arguments, "--yes", config=config)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert list((tmp_path / "mesh").iterdir()) == [tmp_path / "mesh" / "services"]


@pytest.mark.parametrize(
    ("ships", "said"),
    [
        (
            "nowhere:make",
            "'nowhere:make' that the plugin 'toy' ships for its registry cannot be made: ModuleNotFound",
        ),
        ("toy_module:absent", "cannot be made: AttributeError"),
        ("toy_module", "cannot be made: AttributeError"),
        ("toy_module:nobody", "is None and no hamlet_core.api.testing.RegistryBackend"),
    ],
)
def test_a_plugin_that_ships_a_broken_backend_is_named_and_can_be_verified_without(
    verify: Verify, ships: str, said: str
) -> None:
    done = verify("toy", "--yes", config=TOYS, SHIPS=ships)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "do without: --no-backend" in done.stderr
    done = verify("toy", "--yes", "--json", "--partial", "--no-backend", SHIPS=ships)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["failed"] == 0


@pytest.mark.parametrize(
    ("pytest_module", "said"),
    [
        ("raise ModuleNotFoundError('pytest')", "the checks need pytest, which is not installed"),
        (
            "version_tuple = (7, 4, 0); __version__ = '7.4.0'",
            "the checks need pytest 8.4 or newer; 7.4.0 is installed",
        ),
    ],
)
def test_without_pytest_it_says_what_to_install(
    verify: Verify, tmp_path: Path, pytest_module: str, said: str
) -> None:
    (tmp_path / "packages" / "pytest.py").write_text(pytest_module)
    done = verify("file", "--yes")
    assert done.returncode == 1
    assert said in done.stderr
    assert "hamlet-core[testing]" in done.stderr
