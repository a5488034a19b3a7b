"""Every configured adapter is opened and closed without an agent: what `run` would refuse is found before."""

import json

import pytest
from click.testing import CliRunner

from hamlet_core.cli import main
from hamlet_core.plugins.attribution import FAULT

PLUGIN = """
    from hamlet_core.api import AdapterContext, AdapterOptions, AdapterType, ConfigError, hookimpl
    from hamlet_core.api.testing import MemoryCoordinator, MemoryRegistry
    from hamlet_core.api.testing.memory_gateway import MemoryGateway

    CLOSED = []
    MAKES = {
        "registry": lambda options, context: MemoryRegistry().open(context),
        "gateway": lambda options, context: MemoryGateway().adapter_type().open(options, context),
        "coordinator": lambda options, context: MemoryCoordinator().open(context),
    }

    class Options(AdapterOptions):
        wrong: str = ""

    def _open(role):
        def opened(options, context):
            print("opening", role)
            if options.wrong == "open":
                raise ConfigError("`a` and `b` go together", mend="give both")
            adapter = MAKES[role](options, context)
            if options.wrong == "hook":
                @hookimpl
                def misspelt(): pass
                setattr(adapter, role + "_chekc", misspelt)
            if options.wrong == "forgotten":
                setattr(adapter, role + "_check", None)
            @hookimpl
            def close():
                CLOSED.append((context.name, context.mesh, str(context.directory)))
            setattr(adapter, role + "_close", close)
            return adapter
        return opened

    @hookimpl
    def hamlet_adapters():
        return [
            AdapterType(kind="toy", role=role, options=Options, api_version=1, open=_open(role)) for role in MAKES
        ]
"""
WRAPPER = """
    import os
    from hamlet_core.api import ConfigError, hookimpl

    ASKED = []

    def plain(self):
        return []

    @hookimpl
    def hamlet_wrappers(adapter):
        ASKED.append((adapter.name, adapter.kind, adapter.role))
        wrong = os.environ.get("TRAIL") == adapter.role and os.environ["WRONG"]
        if wrong == "refuses":
            raise ConfigError("there is no trail", mend="set TRAIL")
        if wrong == "fails":
            raise KeyError("x")
        return type("Plain", (), {adapter.role + "_check": hookimpl(plain)})() if wrong == "answers" else None
"""
CONFIG = """mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: c.pem, key: k.pem}
plugins: [trail]
registries:
  main: {kind: toy, wrong: "%s"}
gateway: {kind: toy, wrong: "%s"}
egress: {kind: toy}
coordinator: {kind: toy, wrong: "%s"}
"""


@pytest.fixture
def run(site, tmp_path):
    site.install("hamlet-toy", "toy", PLUGIN)
    site.install("hamlet-trail", "trail", WRAPPER)
    file = tmp_path / "hamlet.yaml"

    def run(*arguments, registry="", gateway="", coordinator=""):
        file.write_text(CONFIG % (registry, gateway, coordinator))
        return CliRunner().invoke(main, ["-c", str(file), *arguments, "--json"])

    return run


def closed():
    import toy

    return [name for name, _, _ in toy.CLOSED], {each[1:] for each in toy.CLOSED}


def asked():
    import trail

    return trail.ASKED


def test_sound_adapters_are_opened_closed_and_not_mentioned(run, tmp_path):
    done = run("config", "check")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["ok"]) == (0, True)
    assert done.stderr.count("opening") == 4
    assert closed() == (["main", "gateway", "egress", "coordinator"], {("west", str(tmp_path))})
    roles = {"main": "registry", "gateway": "gateway", "egress": "gateway", "coordinator": "coordinator"}
    assert asked() == [(name, "toy", role) for name, role in roles.items()]


PLACES = {"registry": ("registries.main", 5), "gateway": ("gateway", 6), "coordinator": ("coordinator", 8)}


@pytest.mark.parametrize("role", PLACES)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("hook", "{role}_chekc ("),
        ("forgotten", "the adapter does not implement {role}_check"),
        ("open", "`a` and `b` go together"),
    ],
)
def test_what_a_start_would_refuse_is_a_problem_with_its_place(run, role, wrong, said):
    done = run("config", "check", **{role: wrong})
    assert done.exit_code == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["key"], int(problem["where"].rpartition(":")[2])) == PLACES[role]
    assert said.format(role=role) in problem["message"]
    assert len(closed()[0]) == 3


@pytest.mark.parametrize("role", PLACES)
@pytest.mark.parametrize(
    ("wrong", "said", "mend"),
    [
        ("refuses", "plugin 'trail' refuses to wrap {role} {name!r}: there is no trail", "set TRAIL"),
        ("fails", "plugin 'trail' failed to say what wraps {role} {name!r}: KeyError: 'x'", FAULT),
        ("answers", "the wrapper of plugin 'trail' answers {role}_check itself; a wrapper has", ""),
    ],
)
def test_wrappers_that_a_start_would_refuse_are_problems_too(run, monkeypatch, role, wrong, said, mend):
    monkeypatch.setenv("TRAIL", role)
    monkeypatch.setenv("WRONG", wrong)
    done = run("config", "check")
    assert done.exit_code == 2
    found = json.loads(done.stdout)["problems"]
    names = {"registry": ["main"], "gateway": ["gateway", "egress"], "coordinator": ["coordinator"]}[role]
    assert (found[0]["key"], int(found[0]["where"].rpartition(":")[2])) == PLACES[role]
    for name, problem in zip(names, found, strict=True):
        assert said.format(role=role, name=name) in problem["message"]
        assert problem["mend"] == mend


def test_a_check_without_an_agent_says_so_beside_the_other_findings(run):
    done = run("check", registry="hook", coordinator="forgotten")
    assert done.exit_code == 1
    findings = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
    assert "registry_chekc" in findings["registry 'main' (toy)"]["message"]
    assert "docs/hooks.md" in findings["registry 'main' (toy)"]["mend"]
    assert "coordinator_check" in findings["coordinator (toy)"]["message"]
    assert findings["memory"]["severity"] == "ok"
    assert sorted(closed()[0]) == ["egress", "gateway"]
