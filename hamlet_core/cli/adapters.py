"""`hamlet new-adapter` and `hamlet verify-adapter`: for whoever writes an adapter, and whoever relies on one."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

import hamlet_core
from hamlet_core.api.errors import ConfigError, HamletError
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.output import console as new_console
from hamlet_core.cli.output import emit, json_option, styled
from hamlet_core.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from hamlet_core.api import AdapterOptions, AdapterType
    from hamlet_core.api.testing import RegistryBackend
    from hamlet_core.api.testing.live import Check
    from hamlet_core.config.load import Loaded


@click.command("new-adapter")
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to make; default hamlet-NAME, here.",
)
def new_adapter(name: str, directory: Path | None) -> None:
    """Write the project of an adapter for the registry NAME: a package of its own that works as it is.

    NAME is the `kind` that hamlet.yaml will say, for example etcd: small letters, digits and single hyphens.
    The package is called hamlet-NAME.

    What is written is whole: every hook with its contract, an option model, tests that run the kit, a README
    with an option table, a CI file. It works over a registry in memory (`store.py`); put the calls of the
    real one there, part by part, and run the tests after each.

    \b
    For example:
      hamlet new-adapter etcd
      cd hamlet-etcd
      python -m venv .venv && .venv/bin/pip install -e '.[dev]'
      .venv/bin/pytest
    """  # noqa: D301 - click reads the escape itself
    from hamlet_core.cli.scaffold import core_folder, scaffold

    target = directory or Path(f"hamlet-{name}")
    written = scaffold(name, target)
    click.echo(f"Wrote {target}, {len(written)} files:")
    for path in written:
        click.echo(f"  {path}")
    core = core_folder()
    first = f"\n  .venv/bin/pip install {shlex.quote(str(core))}" if core else ""
    click.echo(
        f"""
Next:
  cd {shlex.quote(str(target))}
  python -m venv .venv{first}
  .venv/bin/pip install -e '.[dev]'
  .venv/bin/pytest             the contract, on the registry in memory
  .venv/bin/hamlet plugins     it is installed
Then replace store.py with the real registry, and tests/backend.py with what others do to it."""
    )


@click.command("verify-adapter")
@click.argument("kind")
@click.option(
    "-c", "--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="The configuration file."
)
@click.option("--registry", metavar="NAME", help="Which registry, where several are of this kind.")
@click.option(
    "--backend",
    metavar="MODULE:FACTORY",
    help="What acts on the backend as others do; FACTORY(options) returns a RegistryBackend.",
)
@click.option("--partial", is_flag=True, help="End with 0 also when checks could not be run, if none failed.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="A check that takes longer has failed.",
)
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
@click.option("--html", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as a page.")
@json_option
@pass_settings
@click.pass_context
def verify_adapter(
    ctx: click.Context,
    settings: Settings,
    kind: str,
    file: Path | None,
    registry: str | None,
    backend: str | None,
    partial: bool,
    timeout: float,
    yes: bool,
    page: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check the adapter KIND against the contract of adapters, on the live registry that FILE configures.

    It runs the same checks as `hamlet_core.api.testing` and reports by rule: what the rule demands, what
    was checked, whether it passed, failed or could not be run, and why.

    The checks write up to 1,000 imports of the peers hamletverify-east and hamletverify-north, marked as those
    of the trust domain hamletverify.example, and take them out again. Nothing of others is touched by an
    adapter that keeps the rules; one that nobody has verified yet belongs on a test registry. No agent is
    needed and none is asked; stop one that holds the registry for itself.

    What the adapter cannot do itself is not run without --backend: outages, edits by others, services that
    come and go. With it, run the checks only on a backend that you may disturb and nobody else writes to:
    FACTORY gets the registry's options and returns what the adapter's own tests use
    (`hamlet_core.api.testing.RegistryBackend`); MODULE is found from the current folder, too.

    \b
    Exit codes:
      0  every check passed
      1  a check failed, could not be run (see --partial), or something was left behind
      2  the command line or the configuration is wrong

    \b
    For example:
      hamlet verify-adapter consul --config hamlet.yaml --html report.html
      hamlet verify-adapter etcd --backend tests.backend:make --yes --json
    """  # noqa: D301 - click reads the escape itself
    _require_pytest()
    from hamlet_core.api.testing.live import NAMES, Result, verify
    from hamlet_core.cli.verification import Subject, document, show
    from hamlet_core.cli.verification import page as page_of
    from hamlet_core.plugins.loader import installed, load

    loaded = (dataclasses.replace(settings, config=file) if file else settings).read()
    name = _registry(loaded, kind, registry)
    if taken := sorted({NAMES.peer, NAMES.other_peer} & set(loaded.config.peers)):
        message = f"{taken[0]!r} is the name of a peer here, and of what the checks write"
        raise ConfigError(message, where=loaded.locate(("peers", taken[0])), mend="verify with another configuration")
    adapter = load([kind]).adapters[kind]
    options = _options(loaded, name, adapter)
    hands = _hands(backend, options) if backend else None
    if not yes:
        writes = f"{'' if hands is None else 'make outages in, and '}write imports into, and remove them from,"
        click.confirm(
            f"The checks {writes} registry {name!r} ({kind}) of {loaded.path}. Go on?", abort=True, err=True
        )
    done = verify(
        lambda context: adapter.open(options, context),
        directory=loaded.path.absolute().parent,
        hands=hands,
        told=_progress(),
        seconds=timeout,
    )
    (info, *_) = [each for each in installed() if each.name == kind]
    subject = Subject(
        kind=kind,
        registry=name,
        config=str(loaded.path),
        distribution=info.distribution,
        version=info.version,
        hamlet=hamlet_core.__version__,
        at=datetime.now(UTC),
    )
    if page is not None:
        _write(page, page_of(subject, done))
    emit(document(subject, done), lambda console: show(console, subject, done), as_json=as_json)
    unproven = done.count(Result.NOT_RUN) and not partial
    if done.count(Result.FAILED) or done.left_behind or unproven:
        ctx.exit(Exit.FINDINGS)


def _require_pytest() -> None:
    """The checks are tests: they need pytest, which an agent does not."""
    try:
        import pytest
    except ImportError as error:
        message = "the checks need pytest, which is not installed"
        raise HamletError(message, mend="pip install 'hamlet-core[testing]'") from error
    if pytest.version_tuple[:2] < (8, 4):
        message = f"the checks need pytest 8.4 or newer; {pytest.__version__} is installed"
        raise HamletError(message, mend="pip install --upgrade 'hamlet-core[testing]'")


def _registry(loaded: Loaded, kind: str, wanted: str | None) -> str:
    """The registry that is meant."""
    registries = loaded.config.registries
    where = loaded.locate("registries")
    if wanted is not None:
        found = registries.get(wanted)
        if found is None or found.kind != kind:
            problem = "is not there" if found is None else f"is of kind {found.kind!r}, not {kind!r}"
            message = f"registry {wanted!r} {problem}; registries: {_listed(loaded)}"
            raise ConfigError(message, where=where, mend="name one of them with --registry")
        return wanted
    names = [name for name, each in registries.items() if each.kind == kind]
    if not names and _drives_a_gateway(loaded, kind):
        message = f"{kind!r} is the kind of a gateway here, and what is checked on a live backend are registries"
        raise ConfigError(
            message,
            where=where,
            mend="check a gateway from its own tests: subclass hamlet_core.api.testing.GatewayContract, run pytest",
        )
    if len(names) != 1:
        message = f"{len(names) or 'no'} registries are of kind {kind!r}; registries: {_listed(loaded)}"
        raise ConfigError(message, where=where, mend="name one with --registry" if names else "add one of that kind")
    return names[0]


def _drives_a_gateway(loaded: Loaded, kind: str) -> bool:
    """Whether the configuration has a gateway of this kind, or what is installed of it is a gateway alone."""
    from hamlet_core.plugins.loader import installed

    if kind in {each.kind for each in (loaded.config.way_in, loaded.config.way_out) if each is not None}:
        return True
    provided = [role for each in installed() if each.name == kind for role in each.provides]
    return "gateway" in provided and "registry" not in provided


def _listed(loaded: Loaded) -> str:
    return ", ".join(f"{name} ({each.kind})" for name, each in loaded.config.registries.items())


def _options(loaded: Loaded, name: str, adapter: AdapterType) -> AdapterOptions:
    """The registry's options, as the agent reads them."""
    from hamlet_core.plugins.opening import validate_options

    loc, given = ("registries", name), loaded.config.registries[name].options
    loaded.options(loc, given, adapter.options)  # what is wrong with them is told with file and line
    return validate_options(loc, given, adapter, loaded.path.absolute().parent)


def _hands(where: str, options: AdapterOptions) -> RegistryBackend:
    """Make what acts on the backend, as `module:factory` says."""
    from hamlet_core.api.testing import RegistryBackend

    module, _, attribute = where.partition(":")
    mend = "write --backend module:factory, for example tests.backend:make"
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory: Callable[[AdapterOptions], object] = getattr(importlib.import_module(module), attribute)
        made = factory(options)
    except Exception as error:
        message = f"the backend {where!r} cannot be made: {type(error).__name__}: {error}"
        raise ConfigError(message, mend=mend) from error
    if not isinstance(made, RegistryBackend):
        message = f"the backend {where!r} is {made!r:.100} and no hamlet_core.api.testing.RegistryBackend"
        raise ConfigError(message, mend=mend)
    return made


def _progress() -> Callable[[Check], None]:
    """A line for each check as it ends, for a person who waits."""
    console = new_console(stderr=True)

    def told(check: Check) -> None:
        if console.is_terminal:
            console.print(styled(f"{check.rule} {check.sentence}: {check.result}", "dim"))

    return told


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"{path}: the report cannot be written: {error.strerror}"
        raise HamletError(message, mend="choose a place that you may write to") from error
