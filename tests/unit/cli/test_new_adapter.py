"""`hamlet new-adapter`: which names it takes, and that what it writes is whole and right."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hamlet_core.api import RegistrySpec
from hamlet_core.cli import main
from hamlet_core.cli.scaffold import FILES, LONGEST, project

ROOT = Path(__file__).parents[3]
FOR_WRAPPERS = {"registry_observed"}


def new_adapter(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["new-adapter", *arguments], prog_name="hamlet")


@pytest.fixture(params=["x", "shelf", "an-adapter-with-a-long-name-42"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project that was written for a kind: the shortest, a usual one, the longest."""
    assert len(request.param) <= LONGEST
    done = new_adapter(request.param, "--directory", str(tmp_path / "made"))
    assert done.exit_code == 0, done.output
    return tmp_path / "made"


def run(project: Path, *command: str) -> None:
    """Run a tool of this environment in the project, as its author would in theirs."""
    environ = {**os.environ, "MYPYPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project,
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_written_passes_ruff_and_is_formatted(made: Path) -> None:
    run(made, "ruff", "check", "--no-cache", ".")
    run(made, "ruff", "format", "--no-cache", "--check", ".")


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy has found out about everything but the projects."""
    return str(tmp_path_factory.mktemp("mypy"))


@pytest.mark.parametrize("kind", ["shelf", "import", "mapping", "core-api", "latest"])
def test_what_is_written_passes_the_kit_and_mypy(kind: str, tmp_path: Path, mypy_cache: str) -> None:
    assert new_adapter(kind, "--directory", str(tmp_path / "made")).exit_code == 0
    run(tmp_path / "made", "pytest", "-q", "-p", "no:cacheprovider")
    run(tmp_path / "made", "mypy", "--cache-dir", mypy_cache)


def test_the_adapter_has_every_hook_with_its_contract() -> None:
    tree = ast.parse(project("shelf")[_path("src/hamlet_shelf/registry.py")])
    methods = {node.name: ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    hooks = {name for name in vars(RegistrySpec) if name.startswith("registry_")} - FOR_WRAPPERS
    assert hooks
    for hook in hooks:
        assert methods[hook] == inspect.getdoc(getattr(RegistrySpec, hook)), hook
        parameters = inspect.signature(getattr(RegistrySpec, hook)).parameters
        (written,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == hook]
        assert [argument.arg for argument in written.args.args] == list(parameters)


def _path(text: str):  # type: ignore[no-untyped-def]
    (found,) = [path for path in project("shelf") if str(path) == text]
    return found


def test_every_template_is_used() -> None:
    folder = ROOT / "hamlet_core" / "cli" / "templates" / "adapter"
    assert {path.name for path in folder.iterdir()} == {f"{name}.template" for name in FILES}


def test_it_is_written_where_one_stands_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = new_adapter("my-shelf")
    assert done.exit_code == 0
    assert (tmp_path / "hamlet-my-shelf" / "src" / "hamlet_my_shelf" / "py.typed").is_file()
    for said in (
        "src/hamlet_my_shelf/registry.py",
        "cd hamlet-my-shelf",
        "pip install -e '.[dev]'",
        "hamlet plugins",
    ):
        assert said in done.stdout


@pytest.mark.parametrize(
    ("origin", "first"),
    [
        (None, False),
        ('{"url": "https://packages.example/hamlet_core.whl", "archive_info": {}}', False),
        ('{"url": "https://code.example/hamlet.git", "vcs_info": {"vcs": "git", "commit_id": "1"}}', False),
        ('{"url": "FOLDER", "dir_info": {}}', True),
        ('{"url": "FOLDER", "dir_info": {"editable": true}}', True),
        ('{"url": "FOLDER/gone", "dir_info": {}}', False),
    ],
)
def test_a_core_that_came_from_a_folder_is_installed_from_there_first(
    origin: str | None, first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "check out"
    checkout.mkdir()
    recorded = origin and origin.replace("FOLDER", checkout.as_uri())
    monkeypatch.setattr(importlib.metadata.PathDistribution, "read_text", lambda *_: recorded)
    done = new_adapter("shelf", "--directory", str(tmp_path / "made"))
    assert done.exit_code == 0, done.output
    step = f".venv/bin/pip install '{checkout}'\n"
    assert (step in done.stdout) is first
    assert done.stdout.count("pip install") == 1 + first
    assert done.stdout.index(step if first else "-e '.[dev]'") <= done.stdout.index("-e '.[dev]'")


@pytest.mark.parametrize(
    "name",
    ["", "Etcd", "9p", "-etcd", "etcd-", "et--cd", "et_cd", "et.cd", "et cd", "é", "../up", "x" * (LONGEST + 1)],
)
def test_what_cannot_be_a_kind_is_refused(name: str, tmp_path: Path) -> None:
    done = new_adapter("--directory", str(tmp_path / "made"), "--", name)
    assert done.exit_code == 2
    assert f"{name!r} cannot be the kind of an adapter" in done.stderr
    assert "for example etcd" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("core", "hamlet-core is the agent itself"),
        ("adapter", "its class AdapterOptions would have the name of the one that it extends"),
        ("registry", "its class RegistryBackend would have the name of the one that it extends"),
        ("test", "pytest would take its classes for tests"),
        ("testrail", "pytest would take its classes for tests"),
    ],
)
def test_a_name_whose_project_would_not_work_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    done = new_adapter(name, "--directory", str(tmp_path / "made"))
    assert done.exit_code == 2
    assert f"{name!r} cannot be the kind of an adapter: {reason}" in done.stderr
    assert not (tmp_path / "made").exists()


def test_a_kind_that_is_installed_is_refused(tmp_path: Path) -> None:
    done = new_adapter("file", "--directory", str(tmp_path / "made"))
    assert done.exit_code == 2
    assert "the kind 'file' is provided by hamlet-file already" in done.stderr


@pytest.mark.parametrize("full", [True, False])
def test_a_folder_that_is_there_stays_as_it_is(full: bool, tmp_path: Path) -> None:
    if full:
        (tmp_path / "README.md").write_text("mine")
    done = new_adapter("shelf", "--directory", str(tmp_path))
    assert done.exit_code == 2
    assert f"{tmp_path}: it is there already and stays as it is" in done.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"] * full


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = new_adapter("shelf", "--directory", str(tmp_path / "file" / "made"))
    assert done.exit_code == 1
    assert f"{tmp_path / 'file' / 'made'} cannot be written: Not a directory" in done.stderr
