from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hamlet_core import __version__
from hamlet_core.agent.admin import AgentUnreachable
from hamlet_core.api import AdapterError, ConfigError, HamletError
from hamlet_core.cli import COMMANDS, main
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.lazy import Lazy, LazyGroup
from hamlet_core.cli.printable import printable
from hamlet_core.cli.settings import PLACES, Settings

HEAVY = ("grpc", "pydantic", "rich", "ruamel", "google.protobuf", "cryptography", "hamlet_core.api")


def _hamlet(*arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "hamlet_core", *arguments],
        cwd=cwd,
        env=kept | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_every_command_and_how_it_can_end() -> None:
    done = _hamlet("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name, lazy in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert lazy.summary in done.stdout
    for code in (*Exit, 130):
        assert re.search(rf"^  {code:<3}  \w", done.stdout, re.MULTILINE), code
    assert "HAMLET_CONFIG" in done.stdout.partition("--debug")[0]


@pytest.mark.parametrize("group", ["pki", "config"])
def test_the_commands_of_a_group_are_told_in_whole_sentences(group: str) -> None:
    told = _hamlet(group, "--help", COLUMNS="80").stdout.partition("Commands:\n")[2].splitlines()
    assert len(told) > 1
    assert all(line.endswith(".") and not line.endswith("...") for line in told)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["completion", "--help"]])
def test_help_imports_no_library_that_it_does_not_need(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom hamlet_core.cli import main\n"
        f"main({arguments!r}, prog_name='hamlet', standalone_mode=False)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_under_its_name(name: str) -> None:
    command = COMMANDS[name].load()
    assert command.name == name
    assert command.help


def test_the_version_is_printed() -> None:
    assert _hamlet("--version").stdout == f"hamlet {__version__}\n"


def test_a_mistyped_command_is_answered_with_the_closest() -> None:
    done = CliRunner().invoke(main, ["statsu"])
    assert done.exit_code == 2
    assert "No such command 'statsu'. Did you mean 'status'?" in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["--nonsense"]).exit_code == 2


def _group(error: BaseException | None = None, **commands: Lazy) -> LazyGroup:
    group = LazyGroup("hamlet", lazy=commands, params=[click.Option(["--debug"], is_flag=True)])

    @group.command("fail")
    def fail() -> None:
        if error is not None:
            raise error

    group.lazy = {**commands, "fail": _Eager(fail)}  # type: ignore[dict-item]
    return group


class _Eager:
    summary = "Fail."

    def __init__(self, command: click.Command) -> None:
        self._command = command

    def load(self) -> click.Command:
        return self._command


ENDS = [
    (None, 0, ""),
    (HamletError("peer east is not held", mend="ask status"), 1, "hamlet: peer east is not held\nask status\n"),
    (AdapterError("registry 'west' (consul): no rights"), 1, "hamlet: registry 'west' (consul): no rights\n"),
    (ConfigError("bad", where="h.yaml:3", mend="write good"), 2, "hamlet: h.yaml:3: bad\nwrite good\n"),
    (AgentUnreachable("no agent answers on /x", mend="start it"), 3, "hamlet: no agent answers on /x\nstart it\n"),
    (KeyboardInterrupt(), 130, ""),
]


@pytest.mark.parametrize(("error", "code", "said"), ENDS)
def test_an_error_becomes_a_message_its_mend_and_an_exit_code(
    error: BaseException | None, code: int, said: str
) -> None:
    done = CliRunner().invoke(_group(error), ["fail"], prog_name="hamlet")
    assert (done.exit_code, done.stderr, done.stdout) == (code, said, "")


def test_a_fault_of_ours_says_how_to_see_more_of_it() -> None:
    done = CliRunner().invoke(_group(KeyError("x")), ["fail"], prog_name="hamlet")
    assert done.exit_code == 4
    assert done.stderr.startswith("hamlet: internal error: KeyError: 'x'\n")
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_with_the_cause() -> None:
    error = HamletError("cannot")
    error.__cause__ = OSError("because")
    done = CliRunner().invoke(_group(error), ["--debug", "fail"], prog_name="hamlet")
    assert done.exit_code == 1
    assert "OSError: because" in done.stderr
    assert done.stderr.index("Traceback") < done.stderr.index("hamlet: cannot")


def test_a_command_that_is_none_is_a_fault_of_ours() -> None:
    done = CliRunner().invoke(_group(x=Lazy("os:sep", "Nothing.")), ["x"])
    assert done.exit_code == 4
    assert "os:sep is no command" in done.stderr


def test_errors_are_red_on_a_terminal_and_never_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    group = _group(HamletError("cannot"))
    assert "\x1b[31m" in CliRunner().invoke(group, ["fail"], color=True).stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in CliRunner().invoke(group, ["fail"], color=True).stderr


def test_an_error_cannot_steer_the_terminal() -> None:
    error = HamletError("refused \x1b]0;owned\x07 by \x9b31m peer", mend="\x1b[2J")
    assert not {"\x1b", "\x07", "\x9b"} & set(CliRunner().invoke(_group(error), ["fail"]).stderr)
    assert printable("größer\nß") == "größer\nß"


def test_the_configuration_is_looked_for_in_its_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(config=Path("x.yaml")).config_file() == Path("x.yaml")
    monkeypatch.setattr("hamlet_core.cli.settings.PLACES", (Path("hamlet.yaml"), tmp_path / "etc.yaml"))
    with pytest.raises(ConfigError, match=r"no configuration: neither hamlet\.yaml nor") as missing:
        Settings().config_file()
    assert "--config" in missing.value.mend
    (tmp_path / "etc.yaml").touch()
    assert Settings().config_file() == tmp_path / "etc.yaml"
    (tmp_path / "hamlet.yaml").touch()
    assert Settings().config_file() == Path("hamlet.yaml")
    assert PLACES[1] == Path("/etc/hamlet/hamlet.yaml")


@pytest.mark.parametrize(
    ("arguments", "environ"), [(["-c", "named.yaml"], {}), ([], {"HAMLET_CONFIG": "named.yaml"})]
)
def test_a_configuration_that_is_named_is_the_one(
    arguments: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "hamlet.yaml").write_text("")
    done = _hamlet(*arguments, "config", "show", cwd=tmp_path, **environ)
    assert done.returncode == 2
    assert done.stderr.startswith("hamlet: named.yaml: there is no such file\n")


READING = [
    ["config", "check"], ["config", "show"], ["run"], ["status"], ["services"], ["plan"], ["check"],
    ["confirm", "east"], ["leave", "east", "--yes"], ["verify-adapter", "file", "--yes"],
]  # fmt: skip


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_configuration_is_named_after_every_command_that_reads_one(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for before in ([], ["-c", "other.yaml"]):
        for option in ("-c", "--config"):
            done = CliRunner().invoke(main, [*before, *command, option, "named.yaml"], prog_name="hamlet")
            assert done.exit_code == 2
            assert "named.yaml: there is no such file" in done.stderr
    done = CliRunner().invoke(main, ["-c", "other.yaml", *command], prog_name="hamlet")
    assert "other.yaml: there is no such file" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_asks_hamlet(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_HAMLET_COMPLETE={shell}_complete" in done.stdout


def test_commands_are_completed_without_being_imported() -> None:
    done = _hamlet(_HAMLET_COMPLETE="zsh_complete", COMP_WORDS="hamlet co", COMP_CWORD="1")
    names = done.stdout.split("\n")[1::3]
    assert names == ["config", "confirm", "completion"]


def test_options_of_a_command_are_completed() -> None:
    done = _hamlet(_HAMLET_COMPLETE="bash_complete", COMP_WORDS="hamlet config check --", COMP_CWORD="3")
    assert "plain,--json" in done.stdout.split()


def test_a_reader_that_goes_away_is_no_fault_of_ours() -> None:
    done = CliRunner().invoke(_group(BrokenPipeError(errno.EPIPE, "Broken pipe")), ["fail"])
    assert (done.exit_code, done.stderr) == (1, "")
