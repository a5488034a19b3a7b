"""A plugin that is made for another hamlet-core is one sentence with a mend, however it shows, and harms no other."""

from __future__ import annotations

import textwrap

import pytest

from hamlet_core import __version__
from tests.unit.cli.packages import COMMAND, CONFIG, GATEWAY, Hamlet, Install, listed

WRAPPER = """
    from hamlet_core.api import hookimpl

    @hookimpl
    def hamlet_wrappers(adapter):
        return None
"""
NEWER = {  # by what the plugin uses that this core does not have: its code, and what is said of it
    "a name": (
        GATEWAY.replace("import AdapterOptions", "import Exporter, AdapterOptions"),
        "cannot be imported: ImportError: cannot import name 'Exporter' from 'hamlet_core.api'",
    ),
    "a module": (
        "import hamlet_core.api.exporters",
        "cannot be imported: ModuleNotFoundError: No module named 'hamlet_core.api.exporters'",
    ),
    "an attribute": (
        "from hamlet_core import api\nOURS = api.Exporter",
        "cannot be imported: AttributeError: module 'hamlet_core.api' has no attribute 'Exporter'",
    ),
    "a member": (
        "from hamlet_core import api\nOURS = api.Severity.FATAL",
        "cannot be imported: AttributeError: ",
    ),
    "a field": (
        GATEWAY.replace("api_version=1", "api_version=1, priority=5"),
        "adapters it provides: TypeError: AdapterType.__init__() got an unexpected keyword argument 'priority'",
    ),
    "a hook": (
        WRAPPER.replace("hamlet_wrappers(adapter)", "hamlet_exporters(registry)"),
        "does not fit the hooks of Hamlet: hamlet_exporters (hamlet_exporters in ",
    ),
    "an argument of a hook": (
        WRAPPER.replace("(adapter)", "(adapter, peers)"),
        "takes adapter, peers, and is given adapter",
    ),
}
PERHAPS = f"it may be made for a newer hamlet-core than {__version__}"
FITTING = f"install the version of acme-door that is made for hamlet-core {__version__}"
UNMET = (
    f"plugin 'door' of acme-door 1.0 needs hamlet-core>=9, and {__version__} is installed"
    f" (pip install 'hamlet-core>=9', or {FITTING})"
)


@pytest.mark.parametrize(("source", "said"), NEWER.values(), ids=NEWER)
@pytest.mark.parametrize("requires", [(), ("hamlet-core>=0.0.1",)], ids=["silent", "met"])
def test_what_this_core_lacks_is_told_with_both_versions_and_the_mend(
    hamlet: Hamlet, install: Install, source: str, said: str, requires: tuple[str, ...]
) -> None:
    install("door", source, requires=requires)
    install("shelf", GATEWAY.replace("door", "shelf"))
    found = listed(hamlet)
    problem = str(found["door"]["problem"])
    assert problem.startswith("plugin 'door' of acme-door 1.0 ")
    assert said in problem
    assert PERHAPS in problem
    assert f"pip install --upgrade hamlet-core, or {FITTING}" in problem
    assert "--force-reinstall" not in problem
    assert (found["shelf"]["problem"], found["shelf"]["provides"]) == (None, ["gateway"])


@pytest.mark.parametrize("source", [source for source, _ in NEWER.values()], ids=NEWER)
def test_a_requirement_on_another_core_is_told_first_and_alone(hamlet: Hamlet, install: Install, source: str) -> None:
    install("door", f"print('imported')\n{textwrap.dedent(source)}", requires=["hamlet-core>=9"])
    done = hamlet("plugins", "--json")
    assert "imported" not in done.stderr
    assert listed(hamlet)["door"]["problem"] == UNMET


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (GATEWAY, "gateway: {kind: door}\n"),
        (WRAPPER, "plugins: [door]\n"),
        (COMMAND.format(name="play", said="played"), "plugins: [door]\n"),
    ],
    ids=["adapter", "wrapper", "command"],
)
def test_checks_and_starts_agree_that_a_plugin_for_another_core_is_refused(
    hamlet: Hamlet, install: Install, source: str, named: str
) -> None:
    install("door", source, requires=["hamlet-core>=9", "absent"])
    for command in ("config check", "check", "run"):
        done = hamlet(*command.split(), config=CONFIG + named)
        assert (done.returncode, done.stdout) == (2, ""), (command, done)
        assert UNMET in done.stderr, (command, done)
    door = listed(hamlet)["door"]
    assert (door["provides"], door["problem"]) == (
        [],
        f"{UNMET}; it needs absent, and none is installed (pip install 'absent')",
    )
    assert hamlet("play").returncode == 2


def test_an_outdated_plugin_is_refused_the_same_way(hamlet: Hamlet, install: Install) -> None:
    install("door", GATEWAY, requires=["hamlet_core<0.0.2"])
    assert listed(hamlet)["door"]["problem"] == (
        f"plugin 'door' of acme-door 1.0 needs hamlet_core<0.0.2, and {__version__} is installed"
        f" (pip install 'hamlet_core<0.0.2', or {FITTING})"
    )


@pytest.mark.parametrize("at", ["the hook", "the import"])
def test_an_adapter_that_says_no_version_is_one_sentence_with_a_mend(
    hamlet: Hamlet, install: Install, at: str
) -> None:
    source = GATEWAY.replace("api_version=1, ", "")
    if at == "the import":
        source += "\n    TYPES = hamlet_adapters()\n"
    install("door", source)
    assert listed(hamlet)["door"]["problem"] == (
        "plugin 'door' of acme-door 1.0 does not say for which version of the adapter API it is made"
        " (pip install --upgrade acme-door; its author gives every AdapterType `api_version=1`)"
    )
    done = hamlet("run", config=f"{CONFIG}gateway: {{kind: door}}\n")
    assert done.returncode == 2
    assert "does not say for which version of the adapter API it is made" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_another_library_lacks_is_no_question_of_the_core(hamlet: Hamlet, install: Install) -> None:
    install("door", "from json import nothing")
    problem = str(listed(hamlet)["door"]["problem"])
    assert PERHAPS not in problem
    assert problem.endswith("(pip install --force-reinstall acme-door)")
