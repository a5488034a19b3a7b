"""`hamlet new-adapter` and `hamlet verify-adapter`: for whoever writes an adapter, and whoever relies on one."""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

import hamlet_core
from hamlet_core.api.errors import HamletError
from hamlet_core.cli.output import ask_first, emit, json_option, styled
from hamlet_core.cli.output import console as new_console
from hamlet_core.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from hamlet_core.api import Role
    from hamlet_core.api.testing.live import Check
    from hamlet_core.api.testing.live_role import LiveRole
    from hamlet_core.cli.subjects import Place, Subject
    from hamlet_core.cli.verification import Run, Section


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
Then replace store.py with the real registry, and verification.py with what others do to it."""
    )


def _number(_ctx: click.Context, _option: click.Parameter, value: float) -> float:
    if math.isnan(value):  # it is in every range
        message = "nan is no number of seconds"
        raise click.BadParameter(message)
    return value


@click.command("verify-adapter")
@click.argument("kind")
@click.option("--registry", metavar="NAME", help="This registry alone.")
@click.option(
    "--role",
    type=click.Choice(["registry", "gateway", "coordinator"]),
    metavar="ROLE",
    help="Only what is a registry, gateway or coordinator; default: all that FILE has of the kind.",
)
@click.option(
    "--backend",
    metavar="MODULE:FACTORY",
    help="What acts on the backend as others do, instead of what the plugin ships.",
)
@click.option("--no-backend", "alone", is_flag=True, help="Act on no backend; run what the adapter can do alone.")
@click.option("--partial", is_flag=True, help="End with 0 also when checks could not be run, if none failed.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=86_400),
    callback=_number,
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
    registry: str | None,
    role: Role | None,
    backend: str | None,
    alone: bool,
    partial: bool,
    timeout: float,
    yes: bool,
    page: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check the adapters of KIND against the contract, on the live backends that FILE configures.

    Every registry, gateway and coordinator of this kind is verified. The checks are those of
    `hamlet_core.api.testing`; the report says by rule what it demands, what was checked, whether it passed,
    failed or could not be run, and why.

    Registries: the checks write up to 1,000 imports of the peers hamletverify-east and hamletverify-north, marked
    as those of the trust domain hamletverify.example, and take them out again. Nothing of others is touched by an
    adapter that keeps the rules; one that nobody has verified yet belongs on a test registry. No agent is needed
    and none is asked; stop one that holds the registry for itself.

    Coordinators: the agents of the checks are of the mesh hamletverify, so nobody's lead is touched.

    Gateways: the checks are those of the ways in which it leads calls: one without an ingress, or one that refuses
    imports, is held to the other way alone, and the report says so. They have to say all that it leads, so they take
    everything else from it, and in the end nothing of ours is led until the agent starts again. They refuse while an
    agent runs with FILE, or another leads its mesh: where FILE has a coordinator, the run holds the lead.

    What the adapter cannot do itself is done by the backend that its plugin ships, or that --backend names:
    outages, edits by others, services hamletverify-* that come and go, connections. FACTORY gets the adapter's
    options and returns a RegistryBackend, GatewayBackend or CoordinatorBackend (`hamlet_core.api.testing`), and
    its `open` opens the adapter; MODULE is found from the current folder, too. Where there is none, the checks that
    need it are not run. With a backend, nobody else should write there meanwhile, and an agent that publishes
    whatever it finds would publish those services.

    Ctrl-C and SIGTERM end the run once what the checks have made is taken out again; a second one ends it at once.
    What is left then is named, and taken out at the beginning of the next run.

    \b
    Exit codes:
      0    every check passed, or does not apply to a backend in use
      1    a check failed, could not be run (see --partial), or something was left behind; an agent runs
      2    the command line or the configuration is wrong, or nobody answers
      3    a backend cannot be reached, or it could not be asked whether an agent leads the gateway
      130  it was interrupted

    \b
    For example:
      hamlet verify-adapter consul --config hamlet.yaml --html report.html
      hamlet verify-adapter consul --role coordinator
      hamlet verify-adapter etcd --yes --json
    """  # noqa: D301 - click reads the escape itself
    _require_pytest()
    from hamlet_core.cli.leading import led_by_nobody
    from hamlet_core.cli.subjects import refuse_names_in_use, require_hooks, subjects
    from hamlet_core.cli.verification import ending

    if backend and alone:
        message = "--backend names a backend, and --no-backend wants none"
        raise click.UsageError(message)
    loaded = settings.read()
    found = subjects(loaded, kind, role=role, registry=registry, backend=backend, alone=alone)
    refuse_names_in_use(loaded)
    if page is not None:
        _require_writable(page)
    require_hooks(loaded, found)
    with led_by_nobody(loaded, found):
        with contextlib.redirect_stdout(sys.stderr):  # what adapters and backends print is no part of the report
            sections = _sections(found, "" if yes else _question(found, loaded.path), timeout)
        _tell(_run(kind, loaded.path), sections, page, as_json=as_json)
    ctx.exit(ending(sections, partial=partial))


def _run(kind: str, config: Path) -> Run:
    """What was verified, with what, and when."""
    from hamlet_core.cli.verification import Run
    from hamlet_core.plugins.loader import installed

    (info, *_) = [each for each in installed() if each.name == kind]
    return Run(
        kind=kind,
        config=str(config),
        distribution=info.distribution,
        version=info.version,
        hamlet=hamlet_core.__version__,
        at=datetime.now(UTC),
    )


def _tell(run: Run, sections: Sequence[Section], page: Path | None, *, as_json: bool) -> None:
    """Print the report and write it as a page: where one of them fails, there is the other."""
    from hamlet_core.cli import verification

    try:
        emit(
            verification.document(run, sections),
            lambda console: verification.show(console, run, sections),
            as_json=as_json,
        )
    finally:
        if page is not None:
            _write(page, verification.page(run, sections))


def _sections(found: Sequence[Subject], question: str, seconds: float) -> list[Section]:
    """Verify one after the other, once all backends are made and the question, if there is one, is answered."""
    from hamlet_core.api.testing.live import require_reach, verify
    from hamlet_core.api.testing.live_role import attempt
    from hamlet_core.cli.verification import Section

    waiting: deque[LiveRole] = deque()
    sections = []
    try:
        waiting.extend(each.live() for each in found)
        if question:
            ask_first(question)
        for each, live in zip(found, waiting, strict=True):
            try:
                require_reach(live, seconds=seconds)
            except HamletError:
                click.echo(f"{each.place}: its backend is not there, so nothing is verified", err=True)
                raise
        for each in found:
            with _left_named(each.place):
                done = verify(waiting.popleft(), told=_progress(each.place), seconds=seconds)
            sections.append(Section(place=each.place, backend=each.backend, done=done))
    finally:
        for live in waiting:
            for left in attempt("what was opened is not closed", live.close):
                click.echo(left, err=True)
    return sections


@contextlib.contextmanager
def _left_named(place: Place) -> Iterator[None]:
    """Where a run ends early, say what it has left behind."""
    try:
        yield
    except BaseException as error:
        for note in getattr(error, "__notes__", ["nothing is left behind"]):
            click.echo(f"{place}: {note}", err=True)
        raise


def _question(found: Sequence[Subject], path: Path) -> str:
    """What is asked before anything is written."""
    does = {
        "registry": "write imports into, and remove them from,",
        "gateway": "take everything that it leads, until the agent starts again, from",
        "coordinator": "take and give up the lead of a mesh of their own in",
    }
    acts = {
        "registry": "register services in, make entries of others in and make outages for",
        "gateway": "connect through and make outages for",
        "coordinator": "put something of others into and make outages for",
    }
    lines = [f"The checks of {path} will"]
    for each in found:
        role = each.place.role
        lines.append(f"  {does[role]} {each.place}")
        if each.backend:
            lines.append(f"  {acts[role]} {each.place}, by {each.backend}")
    return "\n".join([*lines, "Go on?"])


def _require_pytest() -> None:
    """The checks are tests: they need pytest, which an agent does not."""
    try:
        import pytest
    except ImportError as error:
        message = "the checks need pytest, which is not installed"
        raise HamletError(message, mend="pip install 'hamlet-core[testing]'") from error
    if not __debug__:
        message = "the checks are assertions, which Python leaves out where it is told to optimize"
        raise HamletError(message, mend="run it without PYTHONOPTIMIZE, and without the option -O of python")
    if pytest.version_tuple[:2] < (8, 4):
        message = f"the checks need pytest 8.4 or newer; {pytest.__version__} is installed"
        raise HamletError(message, mend="pip install --upgrade 'hamlet-core[testing]'")


def _progress(place: Place) -> Callable[[Check], None]:
    """A line for each check as it ends, for a person who waits."""
    console = new_console(stderr=True)

    def told(check: Check) -> None:
        if console.is_terminal:
            console.print(styled(f"{place}: {check.rule} {check.sentence}: {check.result}", "dim"))

    return told


def _require_writable(page: Path) -> None:
    """Refuse a place for the page that cannot be written before anything is verified; what is there stays."""
    with _place_of_report(page):
        fresh = not page.exists()
        page.open("a").close()
        if fresh:
            page.unlink()


def _write(path: Path, text: str) -> None:
    with _place_of_report(path):
        path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _place_of_report(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path}: the report cannot be written: {error.strerror}"
        raise HamletError(message, mend="choose a place that you may write to") from error
