"""Every configured adapter is opened and closed without an agent: what `run` would refuse is found before."""

import json

import pytest
from click.testing import CliRunner

from hamlet_core.cli import main

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
    from hamlet_core.api import hookimpl

    @hookimpl
    def hamlet_wrappers(adapter):
        raise AssertionError("the trail is the agent's alone")
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


def test_sound_adapters_are_opened_closed_and_not_mentioned(run, tmp_path):
    done = run("config", "check")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["ok"]) == (0, True)
    assert done.stderr.count("opening") == 4
    assert closed() == (["main", "gateway", "egress", "coordinator"], {("west", str(tmp_path))})


@pytest.mark.parametrize("role", ["registry", "gateway", "coordinator"])
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
    place = {"registry": ("registries.main", 5), "gateway": ("gateway", 6), "coordinator": ("coordinator", 8)}[role]
    assert (problem["key"], int(problem["where"].rpartition(":")[2])) == place
    assert said.format(role=role) in problem["message"]
    assert len(closed()[0]) == 3


def test_a_check_without_an_agent_says_so_beside_the_other_findings(run):
    done = run("check", registry="hook", coordinator="forgotten")
    assert done.exit_code == 1
    findings = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
    assert "registry_chekc" in findings["registry 'main' (toy)"]["message"]
    assert "docs/hooks.md" in findings["registry 'main' (toy)"]["mend"]
    assert "coordinator_check" in findings["coordinator (toy)"]["message"]
    assert findings["memory"]["severity"] == "ok"
    assert sorted(closed()[0]) == ["egress", "gateway"]
