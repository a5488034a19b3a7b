"""`hamlet pki`: a development authority for one mesh, and what to hand to a peer's operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from hamlet_core.cli.output import emit, json_option, styled, table

_FOLDER = click.Path(file_okay=False, path_type=Path)
_LIFETIME = click.FloatRange(min=0, min_open=True)


@click.group()
def pki() -> None:
    """Make a development authority and certificates for one mesh.

    A peer knows us by the SPIFFE ID in our certificate, checked against the trust bundle that its operator got
    from us. In production your mesh's own authority (SPIRE, Istio, Consul) issues these files; for a first try
    this one does:

    \b
      hamlet pki init  pki --trust-domain west.example
      hamlet pki issue pki

    Then give pki/bundle.pem, and nothing else, to the peer's operator, and name the files in hamlet.yaml:

    \b
      identity:
        certificate: pki/agent.crt
        key: pki/agent.key
    """  # noqa: D301 - click reads the escape itself


@pki.command(short_help="Make an authority.")
@click.argument("directory", type=_FOLDER)
@click.option("--trust-domain", required=True, help="SPIFFE trust domain of this mesh, e.g. west.example.")
@click.option("--days", type=_LIFETIME, default=365, show_default=True, help="Lifetime.")
@json_option
def init(directory: Path, trust_domain: str, days: float, *, as_json: bool) -> None:
    """Make an authority in DIRECTORY: ca.key, ca.crt and bundle.pem.

    An authority that is there already is never overwritten.

    \b
    Example:
      hamlet pki init pki --trust-domain west.example --days 30
    """  # noqa: D301 - click reads the escape itself
    from hamlet_core.identity import authority

    made = authority.init(directory, trust_domain, days)

    def render(console: Console) -> None:
        _print_files(
            console,
            f"Authority of trust domain {made.trust_domain}, valid until {made.not_after:%Y-%m-%d %H:%M} UTC",
            {
                made.key: "signs for your whole mesh: never leaves this machine",
                made.certificate: "the authority's certificate",
                made.bundle: "give this, and nothing else, to the operator of every peer",
            },
            f"Next: hamlet pki issue {directory}",
        )

    emit(asdict(made), render, as_json=as_json)


@pki.command(short_help="Sign a certificate with it.")
@click.argument("directory", type=_FOLDER)
@click.option("--name", default="agent", show_default=True, help="Last part of the SPIFFE ID, and of the files.")
@click.option("--dns", "dns_names", multiple=True, help="A DNS name to add; repeatable. Default: NAME.TRUST_DOMAIN.")
@click.option("--hours", type=_LIFETIME, default=24, show_default=True, help="Lifetime.")
@click.option("--out", type=_FOLDER, help="Folder for the files. Default: DIRECTORY.")
@json_option
def issue(
    directory: Path, name: str, dns_names: tuple[str, ...], hours: float, out: Path | None, *, as_json: bool
) -> None:
    """Sign a certificate with the authority in DIRECTORY: NAME.key and NAME.crt.

    Its SPIFFE ID is spiffe://TRUST_DOMAIN/hamlet/NAME. Earlier files of that name are replaced; a running agent
    takes the new ones over by itself.

    \b
    Examples:
      hamlet pki issue pki
      hamlet pki issue pki --dns gateway.west.example --hours 12 --out certs
      hamlet pki issue pki --dns 'agent.west.example' --dns '*.west.example'   # an ingress for all its names
    """  # noqa: D301 - click reads the escape itself
    from hamlet_core.identity import authority

    issued = authority.issue(directory, name=name, dns_names=dns_names, hours=hours, out=out)
    trust_domain = issued.spiffe_id.trust_domain

    def render(console: Console) -> None:
        _print_files(
            console,
            f"{issued.spiffe_id}, valid until {issued.not_after:%Y-%m-%d %H:%M} UTC",
            {
                issued.certificate: "identity.certificate in hamlet.yaml",
                issued.key: "identity.key in hamlet.yaml; stays on this machine",
            },
            f"A peer's operator needs {directory / 'bundle.pem'} alone, and our trust domain {trust_domain}",
        )

    emit({**asdict(issued), "spiffe_id": str(issued.spiffe_id)}, render, as_json=as_json)


def _print_files(console: Console, title: str, files: Mapping[Path, str], advice: str) -> None:
    console.print(styled(title, "bold"), soft_wrap=True)
    console.print(table("file", "what it is for", rows=files.items()))
    console.print(advice, soft_wrap=True)
