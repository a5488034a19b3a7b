"""Writing the project of a new adapter from the templates beside this module. It prints nothing."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template
from urllib.parse import urlsplit
from urllib.request import url2pathname

import hamlet_core
from hamlet_core.api import PROJECT, ConfigError, HamletError, RegistrySpec
from hamlet_core.plugins.discovery import discover

LONGEST = 30
"""Characters of a kind: every line that it is put into stays within the line length."""
_KIND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RESERVED: Mapping[str, str] = {
    "core": "hamlet-core is the agent itself",
    "adapter": "its class AdapterOptions would have the name of the one that it extends",
    "registry": "its class RegistryBackend would have the name of the one that it extends",
}
"""Kinds whose distribution, hamlet-<kind>, or whose classes, <Kind>Options and others, are something else."""
_INDENT = " " * 8

FILES: Mapping[str, str] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "ci.yml": ".github/workflows/ci.yml",
    "init.py": "src/{package}/__init__.py",
    "plugin.py": "src/{package}/plugin.py",
    "options.py": "src/{package}/options.py",
    "registry.py": "src/{package}/registry.py",
    "entries.py": "src/{package}/entries.py",
    "store.py": "src/{package}/store.py",
    "verification.py": "src/{package}/verification.py",
    "test_contract.py": "tests/test_contract.py",
    "test_plugin.py": "tests/test_plugin.py",
}
"""The templates, and where what is made of them goes."""
_EMPTY = ("src/{package}/py.typed",)


def scaffold(kind: str, directory: Path) -> list[PurePosixPath]:
    """Write the project of the adapter of `kind` into the new folder `directory`; return the files, in order.

    Raises `ConfigError` for a kind that cannot be one or is taken, and for a folder that is there already;
    `HamletError` when the folder cannot be written.
    """
    refuse_kind(kind)
    texts = project(kind)
    try:
        directory.mkdir(parents=True)
        for path, text in texts.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except FileExistsError as error:
        message = "it is there already and stays as it is"
        raise ConfigError(message, where=str(directory), mend="choose another with --directory") from error
    except OSError as error:
        message = f"{error.filename or directory} cannot be written: {error.strerror}"
        raise HamletError(message, mend="choose a folder that you may write to") from error
    return list(texts)


def refuse_kind(kind: str) -> None:
    """Raise `ConfigError` for what no new adapter can be called, saying why."""
    if not _KIND.fullmatch(kind) or len(kind) > LONGEST:
        message = f"{kind!r} cannot be the kind of an adapter"
        mend = f"small letters, digits and single hyphens, a letter first, at most {LONGEST}; for example etcd"
        raise ConfigError(message, mend=mend)
    reason = "pytest would take its classes for tests" if kind.startswith("test") else _RESERVED.get(kind)
    if reason:
        message = f"{kind!r} cannot be the kind of an adapter: {reason}"
        raise ConfigError(message, mend="choose another name")
    taken = next((each for each in discover() if each.name == kind and each.entry_point is not None), None)
    if taken is not None:
        message = (
            f"the kind {kind!r} is provided by {taken.distribution} already; of two of one kind neither can be used"
        )
        raise ConfigError(message, mend="choose another name, or uninstall it first")


def project(kind: str) -> dict[PurePosixPath, str]:
    """The files of the project of an adapter of `kind`, by their path in it."""
    package = f"{PROJECT}_{kind.replace('-', '_')}"
    values = {
        "kind": kind,
        "distribution": f"{PROJECT}-{kind}",
        "package": package,
        "name": "".join(map(str.capitalize, kind.split("-"))),
        "core_version": hamlet_core.__version__,
        **{f"doc_{hook}": _contract(hook) for hook in vars(RegistrySpec) if hook.startswith("registry_")},
    }
    folder = resources.files("hamlet_core.cli") / "templates" / "adapter"
    texts = {
        PurePosixPath(path.format(package=package)): Template(
            (folder / f"{template}.template").read_text(encoding="utf-8")
        ).substitute(values)
        for template, path in FILES.items()
    }
    return texts | {PurePosixPath(path.format(package=package)): "" for path in _EMPTY}


def core_folder() -> Path | None:
    """The folder that hamlet-core was installed from, where it did not come from an index and is there still.

    The project depends on hamlet-core; whoever has it from a checkout finds it on no index before a release.
    pip records the origin in direct_url.json, as the specification "Recording the Direct URL Origin" has it.
    """
    recorded = importlib.metadata.distribution(f"{PROJECT}-core").read_text("direct_url.json")
    origin = json.loads(recorded) if recorded else {}
    if "dir_info" not in origin:
        return None
    folder = Path(url2pathname(urlsplit(origin["url"]).path))
    return folder if folder.is_dir() else None


def _contract(hook: str) -> str:
    """The docstring of a hook, as the docstring of the method that implements it."""
    first, *rest = (inspect.getdoc(getattr(RegistrySpec, hook)) or "").split("\n")
    if not rest:
        return first
    return "\n".join([first, textwrap.indent("\n".join(rest), _INDENT), _INDENT])
