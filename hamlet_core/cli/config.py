"""`hamlet config`: check, show and describe the configuration, without an agent."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, SecretBytes, SecretStr
from rich.console import Console
from ruamel.yaml import YAML

from hamlet_core.api import format_duration
from hamlet_core.api.errors import ConfigError
from hamlet_core.cli.exits import Exit
from hamlet_core.cli.output import console, emit, json_option, styled
from hamlet_core.cli.settings import Settings, pass_settings
from hamlet_core.config.keys import name_of
from hamlet_core.config.load import Loaded
from hamlet_core.config.problems import ConfigProblems, Problem
from hamlet_core.config.references import Referenced
from hamlet_core.config.schema import schema as schema_of
from hamlet_core.config.schema import undescribed
from hamlet_core.config.values import Loc
from hamlet_core.plugins import loader, trial
from hamlet_core.plugins.options import adapter_options


@click.group()
def config() -> None:
    """Check, show and describe the configuration."""


@config.command(short_help="Say everything that is wrong with it.")
@json_option
@pass_settings
@click.pass_context
def check(ctx: click.Context, settings: Settings, *, as_json: bool) -> None:
    """Say everything that is wrong with the configuration, with file, line, key and mend.

    Files that it names and that are not there yet are remarks, and no faults: it may be checked elsewhere; so are
    rules that publish nothing for want of a gateway. Files that `file:` stands before are part of it and must be
    there. Every adapter is opened, and nothing is asked of its backend. It reads no certificate and asks no registry:
    `hamlet check` does.
    """
    path = settings.config_file()
    try:
        loaded = settings.read()
        adapter_options(loaded)
        if problems := _unsound(loaded):
            raise ConfigProblems(problems)
    except ConfigProblems as error:
        problems = list(error.problems)
    except ConfigError as error:
        message = str(error).removeprefix(f"{error.where}: ")
        problems = [Problem(where=error.where or str(path), key="", message=message, mend=error.mend)]
    else:
        found = loaded.config
        counts = (
            f"registries: {len(found.registries)}, peers: {len(found.peers)}, publish rules: {len(found.publish)}"
        )
        remarks = [*missing_files(loaded), *unreachable_rules(loaded)]

        def render(out: Console) -> None:
            out.print(styled(f"{path}: no problems (mesh: {found.mesh.name}, {counts})", "green"))
            for remark in remarks:
                out.print(styled(remark, "yellow"), soft_wrap=True)

        emit({"file": str(path), "ok": True, "problems": [], "remarks": remarks}, render, as_json=as_json)
        return
    emit({"file": str(path), "ok": False, "problems": problems}, lambda _: _show(problems), as_json=as_json)
    ctx.exit(Exit.USAGE)


def _unsound(loaded: Loaded) -> list[Problem]:
    """The adapters that cannot be opened, or do not have the hooks of their roles."""
    with redirect_stdout(sys.stderr):  # what they print and log is no part of the document
        faults = asyncio.run(trial.faults(loaded))
    return [loaded.places.problem(loc, str(error), error.mend) for loc, error in faults.items()]


def missing_files(loaded: Loaded) -> Iterator[Problem]:
    """The certificates, keys and bundles that the configuration names and that are not on this machine."""
    identity = loaded.config.identity
    named: list[tuple[Loc, Path | None, str]] = [
        (("identity", key), getattr(identity, key), "`hamlet pki` makes one for development")
        for key in ("certificate", "key", "bundle")
    ]
    named += [
        (("peers", name, "bundle"), peer.bundle, f"ask the operator of {name} for its bundle.pem")
        for name, peer in loaded.config.peers.items()
    ]
    for loc, path, mend in named:
        if path is not None and not path.exists():
            yield loaded.places.problem(loc, f"there is no file {path} here", mend)


def unreachable_rules(loaded: Loaded) -> Iterator[Problem]:
    """The rules that publish nothing, because they would lead callers through a gateway and there is none."""
    if loaded.config.gateway is not None:
        return
    for number, rule in enumerate(loaded.config.publish):
        if rule.to and not rule.direct:
            message = "publishes nothing: there is no `gateway` through which it could be called"
            mend = "set `gateway`, or `direct: true` where peers reach the services' own addresses"
            yield loaded.places.problem(("publish", number), message, mend)


def _show(problems: list[Problem]) -> None:
    out: Console = console(stderr=True)
    for problem in problems:
        out.print(styled(problem, "red"), soft_wrap=True)


@config.command(short_help="Print the JSON Schema of hamlet.yaml.")
def schema() -> None:
    """Print the JSON Schema of hamlet.yaml, with the options of the installed adapters.

    Editors complete and check with it. A plugin that cannot be loaded is left out, and so is one with an option that
    no JSON Schema can describe, which is told; `hamlet plugins` says what is wrong with each.
    """
    options = {}
    for plugin in loader.installed():
        for adapter in plugin.adapters:
            if adapter.role != "registry":
                continue
            if fault := undescribed(adapter.options):
                click.echo(f"plugin {plugin.name!r} of {plugin.distribution} is left out: {fault}", err=True)
            else:
                options[adapter.kind] = adapter.options
    click.echo(json.dumps(schema_of(options), indent=2))


@config.command(short_help="Print what is in force, with every default.")
@json_option
@pass_settings
def show(settings: Settings, *, as_json: bool) -> None:
    """Print the configuration in force: with every default, secrets masked, references as they are written."""
    loaded = settings.read()
    options = adapter_options(loaded)
    data = _shown(loaded.config, (), loaded)
    for name, own in options.registries.items():
        kind = loaded.config.registries[name].kind
        data["registries"][name] = {"kind": kind, **_shown(own, ("registries", name), loaded)}
    beside = {"gateway": options.gateway, "egress": options.egress, "coordinator": options.coordinator}
    for key, given in beside.items():
        if given is not None:
            data[key] = {"kind": data[key]["kind"], **_shown(given, (key,), loaded)}
    emit(data, lambda _: click.echo(_yaml(data), nl=False), as_json=as_json)


def _shown(value: Any, loc: Loc, loaded: Loaded) -> Any:
    """The value as hamlet.yaml would have it; what a reference stands for is never shown."""
    reference = loaded.places.references.get(loc)
    if reference is not None or isinstance(value, Referenced):
        return (reference or value).reference
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        named = [(name_of(name, field), getattr(value, name)) for name, field in fields]
        return {key: _shown(item, (*loc, key), loaded) for key, item in named}
    if isinstance(value, Mapping):
        return {str(key): _shown(item, (*loc, str(key)), loaded) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item, (*loc, index), loaded) for index, item in enumerate(value)]
    if isinstance(value, (SecretStr, SecretBytes)):
        return str(value)
    if hasattr(value, "total_seconds"):
        return format_duration(value)
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def _yaml(data: object) -> str:
    text = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(data, text)
    return text.getvalue()
