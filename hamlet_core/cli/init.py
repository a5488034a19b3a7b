"""`hamlet init`: a commented hamlet.yaml to start from, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import click

from hamlet_core.api.errors import ConfigError
from hamlet_core.config.template import template
from hamlet_core.config.values import dns_label, dns_name, trust_domain

FILE = "hamlet.yaml"


def _checked(rule: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """The configuration's own rule for an option of the command line."""

    def callback(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        try:
            return None if value is None else rule(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="[DIR]")
@click.option("--name", required=True, callback=_checked(dns_label), help="Short name of this mesh, such as west.")
@click.option("--domain", required=True, callback=_checked(dns_name), help="Domain of what it publishes.")
@click.option("--trust-domain", callback=_checked(trust_domain), help="SPIFFE trust domain; default the domain.")
def init(directory: Path, name: str, domain: str, trust_domain: str | None) -> None:
    """Write a commented hamlet.yaml into DIR (default: here). An existing one is never touched."""
    trusted = trust_domain or domain
    path = directory / FILE
    text = template(name=name, domain=domain, trust_domain=trusted, registry={"kind": "file", "path": "registry"})
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        message = "it is there already and stays as it is"
        raise ConfigError(message, where=str(path), mend="choose another folder, or move it away") from error
    except OSError as error:
        message = f"it cannot be written: {error.strerror}"
        raise ConfigError(message, where=str(path), mend="choose a folder that you may write to") from error
    pki, shown = shlex.quote(str(directory / "pki")), shlex.quote(str(path))
    services = shlex.quote(str(directory / "registry" / "services"))
    click.echo(
        f"""Wrote {path}. Next:

1. Certificates, for development (in production they come from your mesh's own authority):
     hamlet pki init {pki} --trust-domain {trusted}
     hamlet pki issue {pki}
2. Give {directory / "pki/bundle.pem"} to the operator of each peer, by a way you both trust,
   take theirs, and enter them under `peers:` in {path}.
3. A folder of files is the registry to begin with; its services are read from
     mkdir -p {services}
   For Consul or Kubernetes install their plugin and change `registries:`.
4. Say under `publish:` what they may see, then check and start:
     hamlet -c {shown} config check
     hamlet -c {shown} run"""
    )
