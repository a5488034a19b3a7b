"""The gateway: takes trust and routes from the core, and has a terminating gateway of Consul lead calls out.

It acts; `links` decides. It has no way in: Consul's mesh gateway refuses clients that are no peers of Consul's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

import structlog

from hamlet_consul import credentials
from hamlet_consul.client import Client
from hamlet_consul.entries import TERMINATING_GATEWAY
from hamlet_consul.gateway_check import Seen, findings, unchecked_by
from hamlet_consul.gateway_options import ConsulGatewayOptions
from hamlet_consul.linking import Linking
from hamlet_consul.links import Link, Place, Standing, decide, kept_names, names_of, protocol, refusal
from hamlet_consul.naming import service_name
from hamlet_consul.transport import Transport
from hamlet_core.api import (
    AdapterContext,
    AdapterError,
    Finding,
    GatewayUnavailable,
    ImportAnswer,
    ImportKey,
    ImportRoute,
    PublishRefusals,
    PublishRoute,
    Refused,
    RegistryUnavailable,
    Route,
    Stop,
    Trust,
    hookimpl,
)

SOON, SLOW, IDLE = 1.0, 60.0, 300.0
"""Seconds until the registry's entries are looked at again: at first, at most while one is awaited, and anyway."""

log = structlog.get_logger(__name__)


class ConsulGateway:
    """Implements `GatewaySpec`, the consumer's side of it.

    The core asks for a route before the registry has written the entry, whose name may turn out to be another than
    the plain one. So a thread looks at the entries after every question, and from time to time for what others did.
    """

    def __init__(self, options: ConsulGatewayOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._directory = context.directory.absolute() / options.directory
        self._client = Client(Transport(options.settings(context, consistency="default")))
        self._linking = Linking(client=self._client, context=context, gateway=options.gateway)
        self._lock = threading.RLock()
        self._place: Place | None = None
        self._asked: tuple[dict[ImportKey, ImportRoute], frozenset[ImportKey] | None] | None = None
        self._standing: dict[ImportKey, Standing] | None = None
        self._faults: Mapping[str, str] = {}
        self._waiting: tuple[str, ...] = ()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @hookimpl
    def gateway_ingress(self, stop: Stop) -> Iterator[None]:
        """Say that there is none."""
        yield None
        while not stop.wait(IDLE):
            pass

    @hookimpl
    def gateway_trust(self, trust: Trust) -> bool:
        """Write the files, have the links name them, and take out the links of who is no longer believed."""
        try:
            known, content = credentials.files_of(trust, self._context.trust_domain)
        except ValueError as error:
            raise GatewayUnavailable(str(error), mend="mend that file; what stood before still stands") from error
        place = Place(
            trust_domain=self._context.trust_domain,
            folder=self._options.files or str(self._directory),
            credentials=known,
            namespace=self._options.namespace,
        )
        with self._lock, self._errors():
            credentials.write(self._directory, content)
            before = self._renew(place)
            self._place = place
            # A proxy may not have read yet what it was told before: one generation of files stays.
            credentials.sweep(self._directory, self._context.trust_domain, known.names | before)
        return True

    @hookimpl
    def gateway_publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """Refuse each: it leads calls out alone."""
        why = "a gateway of kind consul has no way in: name hamlet-envoy as `gateway`, and this one as `egress`"
        return {route.sni: Refused(why) for route in routes}

    @hookimpl
    def gateway_import(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None
    ) -> Mapping[ImportKey, ImportAnswer]:
        """Link each import that Consul can check; whoever calls by a sidecar is led by the terminating gateway."""
        wanted = {route.key: route for route in routes}
        with self._lock, self._errors():
            place = self._require_place()
            self._linking.require_sight()
            unchecked = unchecked_by(self._client, self._options)
            answers: dict[ImportKey, ImportAnswer] = {}
            for key, route in wanted.items():
                why = refusal(route, place.credentials, unchecked)
                answers[key] = why or Route(
                    endpoints={one.id: route.service.endpoints_of(one) for one in route.service.instances},
                    originates_tls=False,  # at those addresses; the gateway's name is what a sidecar needs
                    settings={TERMINATING_GATEWAY: self._options.gateway},
                )
            led = {key: route for key, route in wanted.items() if isinstance(answers[key], Route)}
            kept = None if keep is None else frozenset(keep)
            refused = self._link(place, led, kept, look=False)
            self._asked = ({key: route for key, route in led.items() if key not in refused}, kept)
        self._look_soon()
        return {**answers, **refused}

    @hookimpl
    def gateway_check(self) -> Sequence[Finding]:
        """Look at Consul, the token's rights, the gateway and the folder."""
        client = Client(Transport(self._options.settings(self._context, consistency="default")))
        try:
            seen = Seen(
                options=self._options,
                context=self._context,
                directory=self._directory,
                faults=dict(self._faults),
                waiting=self._waiting,
            )
            return list(findings(client, seen))
        finally:
            client.close()

    @hookimpl
    def gateway_close(self) -> None:
        """End the thread and the connections. Links and files stay, for the next start."""
        self._closed = True
        self._wake.set()
        self._client.close()
        if self._thread is not None:
            self._thread.join()

    def _renew(self, place: Place) -> set[str]:
        """Have our links name the files in force; the names of those they named before."""
        named: set[str] = set()

        def renewed(present: Sequence[Link]) -> list[Link]:
            ours = [link for link in present if place.owner(link)]
            named.update(PurePosixPath(link[key]).name for link in ours for key in ("CAFile", "CertFile", "KeyFile"))
            return [link for link in map(place.renewed, present) if link is not None]

        self._linking.change(renewed, create=False)
        return named

    def _link(
        self,
        place: Place,
        routes: Mapping[ImportKey, ImportRoute],
        keep: frozenset[ImportKey] | None,
        *,
        look: bool,
    ) -> Mapping[ImportKey, Refused]:
        """Bring the links to `routes`; `look` reads anew which entries stand. Returns what a link bars."""
        if look or self._standing is None or (keep and keep - self._standing.keys()):
            self._standing = self._linking.standing()
        standing = self._standing
        unknown = routes.keys() - standing.keys()
        listed = self._linking.listed() if unknown else frozenset()
        if any(service_name(routes[key].service.fqdn.lower()) in listed for key in unknown):
            # That may be the import's own entry, written since: taken for another's, its link would be cut.
            self._standing = standing = self._linking.standing()
        names = names_of(routes.values(), standing, listed)
        linked = {name: routes[key] for key, name in names.items()}
        kept = None if keep is None else {name for key in keep for name in kept_names(key, standing)}
        speaks = {name: protocol(route.service) for name, route in linked.items()} if self._options.protocols else {}
        spoken = {name: said for name, said in speaks.items() if said}
        defaults = self._linking.defaults()
        self._faults = self._linking.set_protocols(defaults, spoken)
        refused: dict[ImportKey, Refused] = {}

        def decided(present: Sequence[Link]) -> Sequence[Link]:
            decision = decide(present, linked, kept, place, self._options.gateway)
            refused.clear()
            refused.update(decision.refused)
            return decision.links

        self._linking.change(decided)
        self._linking.drop_protocols(defaults, lambda name: name in spoken or kept is None or name in kept)
        self._waiting = tuple(sorted(route.service.fqdn for key, route in routes.items() if key not in names))
        return refused

    def _look_soon(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="hamlet-consul-gateway", daemon=True)
            self._thread.start()
        self._wake.set()

    def _follow(self) -> None:
        """Look at the entries, soon after each question and until all stand; until it is closed."""
        seconds, told = IDLE, ""
        due = time.monotonic() + seconds
        while True:
            asked = self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            if self._closed:
                return
            if asked:  # entries are written after the answer
                seconds = SOON
                due = min(due, time.monotonic() + seconds)
            if time.monotonic() < due:
                continue
            try:
                settled, told = self._look(), ""
            except (RegistryUnavailable, AdapterError) as error:
                if not self._closed and str(error) != told:
                    log.warning("nobody looks after the terminating gateway's links", cause=str(error))
                settled, told = False, str(error)
            seconds = IDLE if settled else min(2 * seconds, SLOW)
            due = time.monotonic() + seconds

    def _look(self) -> bool:
        """Bring the links to the names that the entries have by now; whether all entries stand as asked for."""
        with self._lock:
            if self._closed or self._asked is None or self._place is None:
                return True
            routes, keep = self._asked
            self._linking.require_sight()
            self._link(self._place, routes, keep, look=True)
            standing = self._standing or {}
            return all(key in standing and standing[key].fqdn == route.service.fqdn for key, route in routes.items())

    def _require_place(self) -> Place:
        if self._place is None:
            message = "the gateway has no certificate and no bundles yet"
            raise GatewayUnavailable(message)
        return self._place

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say of Consul and of files what the gateway's contract has words for."""
        try:
            yield
        except RegistryUnavailable as error:
            raise GatewayUnavailable(str(error), mend=error.mend) from error
        except OSError as error:
            message = f"the files in {self._directory} cannot be written: {error}"
            raise GatewayUnavailable(message, mend="let the agent's user write that folder") from error
