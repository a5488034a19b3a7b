"""Reading hamlet.yaml: text to data, references filled in, data to the model, paths made absolute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hamlet_core.api.errors import ConfigError
from hamlet_core.api.hookspecs import AdapterContext, AdapterOptions
from hamlet_core.config.document import parse
from hamlet_core.config.keys import is_path, name_of
from hamlet_core.config.model import Config, Identity
from hamlet_core.config.problems import ConfigProblems, Places, Problem, undotted
from hamlet_core.config.references import BrokenReference, Referenced, resolve
from hamlet_core.config.values import Loc

_Options = TypeVar("_Options", bound=AdapterOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration and the file it came from."""

    config: Config
    path: Path
    places: Places

    def locate(self, key: str | Loc) -> str:
        """`file:line` of a key such as `registries.west.path`, or of the nearest one above it."""
        return self.places.locate(undotted(key) if isinstance(key, str) else key)

    def context(self, name: str) -> AdapterContext:
        """What the adapter at this key, a registry's name, `gateway`, `egress` or `coordinator`, is told of us."""
        mesh = self.config.mesh
        return AdapterContext(
            name=name,
            mesh=mesh.name,
            domain=mesh.domain,
            trust_domain=mesh.trust_domain,
            directory=self.path.absolute().parent,
        )

    def options(self, loc: Loc, given: Mapping[str, Any], model: type[_Options]) -> _Options:
        """Read the options `given` at `loc` with their adapter's model; raises `ConfigProblems` with their lines."""
        try:
            return model.model_validate(given)
        except ValidationError as error:
            problems = self.places.explain(error, model, loc)
        # Outside the handler, so that no traceback shows pydantic's own error, which quotes values.
        raise ConfigProblems(problems)


def load(path: Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration; see `read`."""
    return read(path, environ=environ).config


def read(path: Path, *, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read a configuration, and where its keys stand.

    Relative paths of identity, admin and peers become absolute, from the file's folder; whether they exist
    is for those to say who open them. Raises `ConfigError` for a file that cannot be read and
    `ConfigProblems`, all problems at once, for what is in it.
    """
    document = parse(_text(path), str(path))
    places = Places(name=str(path), lines=document.lines, references={})
    if not isinstance(document.data, dict):
        message = "is empty" if document.data is None else "must hold keys and values, such as mesh: and peers:"
        raise ConfigProblems((places.problem((), message, "`hamlet init` writes one to start from"),))
    filler = _Filler(path.absolute().parent, environ, places)
    data = filler.filled(document.data, ())
    places = Places(name=str(path), lines=document.lines, references=filler.references)
    problems = filler.problems
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        unfilled = {problem.key for problem in problems}
        problems += [problem for problem in places.explain(error, Config) if problem.key not in unfilled]
    if problems:
        # Outside the handler, so that no traceback shows pydantic's own error, which quotes values.
        raise ConfigProblems(problems)
    config = _absolute(_veiled(config, (), filler.references), path.absolute().parent)
    return Loaded(config=config, path=path, places=places)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        message = "there is no such file"
        raise ConfigError(
            message, where=str(path), mend="name another with --config, or let `hamlet init` write one"
        ) from error
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
        raise ConfigError(message, where=str(path), mend="write it as UTF-8 text") from None
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise ConfigError(message, where=str(path)) from error


class _Filler:
    """Fills in references, and remembers where they stood."""

    def __init__(self, directory: Path, environ: Mapping[str, str], places: Places) -> None:
        self._directory = directory
        self._environ = environ
        self._places = places
        self.references: dict[Loc, Referenced] = {}
        self.problems: list[Problem] = []

    def filled(self, value: object, loc: Loc) -> object:
        if isinstance(value, dict):
            return {key: self.filled(item, (*loc, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item, (*loc, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        if value.startswith("file:") and is_path(Config, loc):
            problem = "this key takes the path itself"
            self.problems.append(self._places.problem(loc, problem, "write the path without file:"))
            return value
        try:
            text = resolve(value, directory=self._directory, environ=self._environ)
        except BrokenReference as error:
            self.problems.append(self._places.problem(loc, str(error), error.mend))
            return value
        if isinstance(text, Referenced):
            self.references[loc] = text
        return text


def _veiled(value: Any, loc: Loc, references: Mapping[Loc, Referenced]) -> Any:
    """The value with each text that came from a reference as a `Referenced`; validation makes it a plain `str`."""
    if isinstance(value, str):
        reference = references.get(loc)
        return reference if reference == value else value
    if isinstance(value, tuple):
        return tuple(_veiled(item, (*loc, index), references) for index, item in enumerate(value))
    if isinstance(value, dict):
        return {key: _veiled(item, (*loc, key), references) for key, item in value.items()}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return value.model_copy(
            update={
                name: _veiled(getattr(value, name), (*loc, name_of(name, field)), references)
                for name, field in fields
            }
        )
    return value


def _absolute(config: Config, directory: Path) -> Config:
    own = config.identity
    identity = Identity(
        certificate=directory / own.certificate,
        key=directory / own.key,
        bundle=None if own.bundle is None else directory / own.bundle,
    )
    changes: dict[str, Any] = {
        "identity": identity,
        "admin": config.admin.model_copy(update={"socket": directory / config.admin.socket}),
        "peers": {
            name: peer.model_copy(update={"bundle": directory / peer.bundle}) for name, peer in config.peers.items()
        },
    }
    return config.model_copy(update=changes)
