from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from pydantic import Field, SecretStr

from hamlet_core.api import AdapterContext, AdapterOptions, AdapterType, hookimpl
from hamlet_core.api.testing import MemoryRegistry
from hamlet_core.cli import main
from hamlet_core.config.document import parse
from hamlet_core.config.load import load
from hamlet_core.plugins import loader
from hamlet_core.plugins.discovery import Found

TEXT = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity:
  certificate: a.crt
  key: a.key
registries:
  local:
    kind: toy
    path: registry
    token: ${TOKEN}
"""


class ToyOptions(AdapterOptions):
    path: Path
    token: SecretStr | None = None
    password: SecretStr | None = None
    deep: dict[str, int] = Field(default_factory=dict)


class Toy:
    @hookimpl
    def hamlet_adapters(self) -> list[AdapterType]:
        return [
            AdapterType(
                kind="toy", role="registry", options=ToyOptions, api_version=1, open=self.open, summary="For play."
            )
        ]

    def open(self, options: ToyOptions, context: AdapterContext) -> object:
        return MemoryRegistry().open(context)


def _installed(**plugins: object) -> Iterator[Any]:
    for name, plugin in plugins.items():
        point = SimpleNamespace(load=lambda plugin=plugin: plugin)
        yield Found(name=name, distribution=f"hamlet-{name}", version="1", entry_point=point)  # type: ignore[arg-type]


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    found: dict[str, object] = {"toy": Toy()}
    monkeypatch.setattr(loader, "discover", lambda: _installed(**found))
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hamlet.yaml"
    path.write_text(TEXT)
    return path


def _run(file: Path, *arguments: str, token: str = "hush") -> Result:
    return CliRunner(env={"TOKEN": token}).invoke(main, ["-c", str(file), *arguments], prog_name="hamlet")


@pytest.mark.usefixtures("plugins")
def test_a_good_configuration_is_called_so(file: Path) -> None:
    for name in ("a.crt", "a.key"):
        (file.parent / name).touch()
    done = _run(file, "config", "check")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{file}: no problems (mesh: west, registries: 1, peers: 0, publish rules: 0)\n"
    done = _run(file, "config", "check", "--json")
    assert json.loads(done.stdout) == {"file": str(file), "ok": True, "problems": [], "remarks": []}


@pytest.mark.usefixtures("plugins")
def test_a_file_that_is_not_there_is_a_remark_and_no_fault(file: Path) -> None:
    peer = "peers: {east: {bundle: peers/east.pem, trust_domain: east.example}}\n"
    file.write_text(TEXT + peer)
    (file.parent / "a.crt").touch()
    done = _run(file, "config", "check")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1:] == [
        f"{file}:4: identity.key: there is no file {file.parent}/a.key here (`hamlet pki` makes one for development)",
        (
            f"{file}:10: peers.east.bundle: there is no file {file.parent}/peers/east.pem here"
            " (ask the operator of east for its bundle.pem)"
        ),
    ]


STATIC = "gateway: {endpoints: ['gw.west.example:443'], sans: [gw.west.example]}\n"


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("gateway", "rules", "remarked"),
    [
        ("", "{to: all}, {to: all, direct: true}, {to: []}, {to: all}", [0, 3]),
        (STATIC, "{to: all}", []),
        ("", "{to: all, direct: true}", []),
    ],
    ids=["no gateway", "a static gateway", "direct alone"],
)
def test_a_rule_that_publishes_nothing_for_want_of_a_gateway_is_a_remark(
    file: Path, gateway: str, rules: str, remarked: list[int]
) -> None:
    file.write_text(f"{TEXT}{gateway}publish: [{rules}]\n")
    done = _run(file, "config", "check", "--json")
    assert done.exit_code == 0
    remarks = [each for each in json.loads(done.stdout)["remarks"] if each["key"].startswith("publish")]
    assert [each["key"] for each in remarks] == [f"publish[{number}]" for number in remarked]
    for each in remarks:
        assert "there is no `gateway`" in each["message"]
        assert "direct: true" in each["mend"]
        assert each["where"] == f"{file}:10"


@pytest.mark.usefixtures("plugins")
def test_all_problems_are_printed_with_their_lines_and_end_with_2(file: Path) -> None:
    file.write_text(TEXT.replace("path:", "pth:") + "  other: {kind: tyo}\nplugins: [audit]\n")
    done = _run(file, "config", "check")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{file}:6: registries.local.path: this key is required",
        f"{file}:8: registries.local.pth: unknown key (did you mean path? allowed here: path, token, password, deep)",
        f"{file}:10: registries.other.kind: registry kind 'tyo' is not installed; installed: toy (write 'toy')",
        (
            f"{file}:11: plugins[0]: plugin 'audit' is not installed; installed: toy "
            "(install the distribution that provides it, by convention `pip install hamlet-audit`)"
        ),
    ]


@pytest.mark.usefixtures("plugins")
def test_problems_are_a_document_for_programs(file: Path) -> None:
    file.write_text(TEXT + "listn: 1\n")
    done = _run(file, "config", "check", "--json")
    assert (done.exit_code, done.stderr) == (2, "")
    document = json.loads(done.stdout)
    assert (document["file"], document["ok"]) == (str(file), False)
    (problem,) = document["problems"]
    assert list(problem) == ["where", "key", "message", "mend"]
    assert (problem["where"], problem["key"], problem["message"]) == (f"{file}:10", "listn", "unknown key")


@pytest.mark.usefixtures("plugins")
def test_a_missing_file_is_one_problem_of_the_document(tmp_path: Path) -> None:
    done = _run(tmp_path / "none.yaml", "config", "check", "--json")
    assert done.exit_code == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["where"], problem["message"]) == (str(tmp_path / "none.yaml"), "there is no such file")


@pytest.mark.usefixtures("plugins")
def test_what_is_shown_has_every_default_and_no_secret(file: Path) -> None:
    file.write_text(
        TEXT
        + "    password: plain\n    deep: {a: 1}\nlisten: 0.0.0.0:${PORT:-8009}\n"
        + "peers:\n  east: {bundle: '${TOKEN}.pem', trust_domain: east.example, retain: 90m}\n"
    )
    done = _run(file, "config", "show")
    assert (done.exit_code, done.stderr) == (0, "")
    shown: Any = parse(done.stdout, "shown").data
    assert shown["registries"] == {
        "local": {"kind": "toy", "path": "registry", "token": "${TOKEN}", "password": "**********", "deep": {"a": 1}}
    }
    assert shown["listen"] == "0.0.0.0:${PORT:-8009}"
    assert shown["peers"]["east"]["bundle"] == "${TOKEN}.pem"
    assert (shown["peers"]["east"]["retain"], shown["peers"]["east"]["quiet"]) == ("1h30m", "10s")
    assert list(shown)[:3] == ["mesh", "identity", "listen"]
    assert "hush" not in done.stdout
    assert json.loads(_run(file, "config", "show", "--json").stdout) == shown


@pytest.mark.usefixtures("plugins")
def test_what_is_shown_can_be_loaded_again(file: Path) -> None:
    again = file.with_name("again.yaml")
    again.write_text(_run(file, "config", "show").stdout)
    assert load(again, environ={"TOKEN": "t"}) == load(file, environ={"TOKEN": "t"}).model_copy(
        update={"registries": load(again, environ={"TOKEN": "t"}).registries}
    )


@pytest.mark.usefixtures("plugins")
def test_the_schema_describes_the_installed_adapters(file: Path) -> None:
    described = json.loads(_run(file, "config", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(described)
    assert "token" in described["$defs"]["registry-toy"]["properties"]


def test_a_broken_plugin_does_not_keep_the_schema_from_being_printed(file: Path, plugins: dict[str, object]) -> None:
    plugins["broken"] = SimpleNamespace()
    described = json.loads(_run(file, "config", "schema").stdout)
    assert [name for name in described["$defs"] if name.startswith("registry-")] == ["registry-toy"]


def _init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments], prog_name="hamlet")


def test_init_writes_a_configuration_that_loads_and_says_what_is_next(tmp_path: Path) -> None:
    done = _init(str(tmp_path / "new/west"), "--name", "west", "--domain", "west.example")
    assert done.exit_code == 0, done.output
    mesh = load(tmp_path / "new/west/hamlet.yaml", environ={}).mesh
    assert (mesh.name, mesh.domain, mesh.trust_domain) == (
        "west",
        "west.example",
        "west.example",
    )
    for step in ("hamlet pki init", "hamlet pki issue", "bundle.pem", "config check", "hamlet -c"):
        assert step in done.stdout


def test_init_takes_a_trust_domain_that_is_not_the_domain(tmp_path: Path) -> None:
    _init(str(tmp_path), "--name", "west", "--domain", "west.example", "--trust-domain", "prod.west")
    assert load(tmp_path / "hamlet.yaml", environ={}).mesh.trust_domain == "prod.west"


def test_init_never_touches_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "hamlet.yaml").write_text("mine")
    done = _init(str(tmp_path), "--name", "west", "--domain", "west.example")
    assert done.exit_code == 2
    assert f"{tmp_path}/hamlet.yaml: it is there already and stays as it is" in done.stderr
    assert (tmp_path / "hamlet.yaml").read_text() == "mine"


def test_init_says_why_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = _init(str(tmp_path / "file/below"), "--name", "west", "--domain", "west.example")
    assert done.exit_code == 2
    assert "it cannot be written: Not a directory" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--domain", "west.example"],
        ["--name", "west"],
        ["--name", "West", "--domain", "west.example"],
        ["--name", "west", "--domain", "west_example"],
        ["--name", "west", "--domain", "west.example", "--trust-domain", "spiffe://west.example"],
    ],
)
def test_init_refuses_what_the_configuration_would(tmp_path: Path, arguments: list[str]) -> None:
    assert _init(str(tmp_path), *arguments).exit_code == 2
    assert not (tmp_path / "hamlet.yaml").exists()


def test_a_configuration_by_init_loads_with_the_certificates_by_pki(tmp_path: Path) -> None:
    _init(str(tmp_path), "--name", "west", "--domain", "west.example")
    runner = CliRunner()
    pki = str(tmp_path / "pki")
    for arguments in (["pki", "init", pki, "--trust-domain", "west.example"], ["pki", "issue", pki]):
        done = runner.invoke(main, arguments)
        assert done.exit_code == 0, done.output
    identity = load(tmp_path / "hamlet.yaml", environ={}).identity
    assert identity.bundle is not None
    assert all(path.is_file() for path in (identity.certificate, identity.key, identity.bundle))
