"""`hamlet plugins` and the commands that plugins add: one that is damaged or wrong takes nothing from another."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unit.cli.packages import COMMAND, GATEWAY, Hamlet, Install, listed

NOT_UTF_8 = b"[console_scripts]\n\xff = \xff:\xff\n"
NO_EQUALS = b"[hamlet]\netcd\n"


@pytest.mark.parametrize("command", ["plugins", "config check", "config schema", "new-adapter shelf"])
def test_damaged_distributions_stop_no_command(hamlet: Hamlet, install: Install, command: str) -> None:
    install("lib", entry_points=NOT_UTF_8)
    install("tool", entry_points=b"[console_scripts]\nx\n")
    install("etcd", entry_points=NO_EQUALS)
    install("other", entry_points=b"[hamlet]\n\xff = \xff\n")
    done = hamlet(*command.split())
    assert (done.returncode, done.stderr) == (1 if command == "plugins" else 0, "")


def test_damage_is_told_where_it_may_be_of_a_plugin(hamlet: Hamlet, install: Install) -> None:
    install("lib", entry_points=NOT_UTF_8)
    install("shelf", entry_points=NO_EQUALS)
    found = listed(hamlet)
    assert "acme-lib" not in found
    problem = str(found["acme-shelf"]["problem"])
    assert "the entry points of acme-shelf 1.0 cannot be read" in problem
    assert "pip install --force-reinstall acme-shelf" in problem


def test_the_plugins_are_listed_with_what_they_provide(hamlet: Hamlet, install: Install) -> None:
    install("door", GATEWAY)
    install("extra", COMMAND.format(name="extra", said="played"))
    found = listed(hamlet)
    assert found["door"] == {
        "name": "door",
        "distribution": "acme-door",
        "version": "1.0",
        "provides": ["gateway"],
        "summary": "a door",
        "problem": None,
    }
    assert found["extra"]["provides"] == ["commands"]
    table = hamlet("plugins").stdout
    assert "acme-door" in table
    assert "a door" in table


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("Acme.Lib<1.0", "it needs Acme.Lib<1.0, and 1.0 is installed (pip install 'Acme.Lib<1.0')"),
        ("absent[fast]", "it needs absent, and none is installed (pip install 'absent')"),
        ("absent ; python_version >= '3'", "it needs absent, and none is installed (pip install 'absent')"),
        ("hamlet-core[testing]>=0.0.1", None),
        ("acme-lib~=1.0", None),
        ("absent ; extra == 'fast'", None),
        ("absent ; python_version < '3'", None),
        ("what is this", None),
    ],
)
def test_a_requirement_that_is_not_met_is_told(
    hamlet: Hamlet, install: Install, requirement: str, said: str | None
) -> None:
    install("lib", entry_points=b"[console_scripts]\n")
    install("door", GATEWAY, requires=["click", requirement])
    found = listed(hamlet)["door"]
    assert (found["problem"], found["provides"]) == (said, ["gateway"])


def test_a_plugin_that_cannot_be_imported_says_what_it_lacks_too(hamlet: Hamlet, install: Install) -> None:
    install("door", "import absent", requires=["absent>=2"])
    problem = str(listed(hamlet)["door"]["problem"])
    assert "No module named 'absent'" in problem
    assert problem.endswith("; it needs absent>=2, and none is installed (pip install 'absent>=2')")


WRONG = {  # by what is wrong: the body of the hook, and what is said of it
    "raises": ("1 / 0", "failed to say which commands it adds: ZeroDivisionError"),
    "exits": ("raise SystemExit(3)", "failed to say which commands it adds: SystemExit: 3"),
    "returns None": ("return None", "failed to say which commands it adds: TypeError: hamlet_commands returned None"),
    "returns no command": ("return ['x']", "returns 'x' from hamlet_commands, which is no click.Command with a name"),
    "gives no name": ("return [click.Command(None)]", "which is no click.Command with a name"),
    "takes our name": ("return [click.Command('run')]", "it adds 'run', which hamlet has itself"),
}


def test_the_commands_of_one_plugin_harm_no_other_and_are_told(hamlet: Hamlet, install: Install) -> None:
    install("extra", COMMAND.format(name="extra", said="played"))
    for number, (body, _) in enumerate(WRONG.values()):
        install(f"bad{number}", COMMAND.format(name="x", said="").replace("return [", f"{body}\n        return ["))
    done = hamlet("extra")
    assert (done.returncode, done.stdout, done.stderr) == (0, "played\n", "")
    found = listed(hamlet)
    assert found["extra"]["problem"] is None
    for number, (_, said) in enumerate(WRONG.values()):
        assert said in str(found[f"bad{number}"]["problem"])


def test_an_adapter_whose_commands_are_wrong_is_one_nevertheless(hamlet: Hamlet, install: Install) -> None:
    install("door", GATEWAY + COMMAND.format(name="x", said="").replace("return [", "1 / 0\n        return ["))
    door = listed(hamlet)["door"]
    assert door["provides"] == ["gateway"]
    assert "failed to say which commands it adds" in str(door["problem"])


def test_a_command_that_two_plugins_add_is_refused_and_no_other(hamlet: Hamlet, install: Install) -> None:
    for module in ("one", "two"):
        install(module, COMMAND.format(name="play", said="played"))
    install("extra", COMMAND.format(name="extra", said="played"))
    done = hamlet("play")
    assert done.returncode == 1
    assert "the command 'play' is added twice: by the plugins 'one' of acme-one and 'two' of acme-two" in done.stderr
    assert hamlet("extra").stdout == "played\n"


def test_what_a_plugin_prints_is_no_part_of_a_document(hamlet: Hamlet, install: Install) -> None:
    install(
        "door",
        "print('imported')\n" + textwrap.dedent(GATEWAY).replace("    return", "    print('asked')\n    return"),
    )
    assert listed(hamlet)["door"]["problem"] is None
    assert hamlet("plugins").stderr == "imported\nasked\n"


def test_a_plugin_that_hangs_is_named_meanwhile(install: Install, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    install("door", GATEWAY)
    install("shelf", "import threading\nthreading.Event().wait()")
    environ = os.environ | {"PYTHONPATH": str(tmp_path / "packages")}
    command = [sys.executable, "-m", "hamlet_core", "plugins"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hanging:
        try:
            assert hanging.stderr is not None
            assert hanging.stderr.readline() == (
                "plugin 'shelf' of acme-shelf 1.0 takes longer than 5 s to load; if it goes on, it hangs"
                " (interrupt with Ctrl-C, then pip uninstall acme-shelf)\n"
            )
        finally:
            hanging.kill()
