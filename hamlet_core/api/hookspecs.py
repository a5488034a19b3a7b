# mypy: disable-error-code="empty-body"
"""The hooks: what a plugin provides, and the contracts of a registry adapter, a gateway and a coordinator.

Two levels. `AgentSpec` hooks are implemented by a plugin's module (its `hamlet` entry point, named after
the adapter kind it provides). `RegistrySpec`, `GatewaySpec` and `CoordinatorSpec` hooks are implemented by the
object that the adapter type's `open` returns; each configured registry, gateway and coordinator has a plugin
manager of its own, so one adapter answers, and wrappers from other plugins stand around it.

Hooks are synchronous and may block: the core calls them on threads of its own, watch and writes on
different ones. No implementation takes default arguments: pluggy would then never pass the value.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import pluggy
from pydantic import BaseModel, ConfigDict

from hamlet_core.api.changes import Batch, ImportChange, Outcome
from hamlet_core.api.gateway import ImportAnswer, ImportRoute, Ingress, PublishRefusals, PublishRoute, Trust
from hamlet_core.api.model import ImportKey, Mark, StandingImport

if TYPE_CHECKING:
    import click

PROJECT = "hamlet"
"""The name of the project for pluggy, and of the entry-point group that plugins are found by."""
API_VERSION = 1
"""The version of this contract. A plugin built for a newer one is refused with a sentence."""

Role: TypeAlias = Literal["registry", "gateway", "coordinator"]
"""What an adapter is for."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks the functions and methods of a plugin that implement a hook."""


class AdapterOptions(BaseModel):
    """Base of an adapter's options, the keys beside its `kind`; unknown ones are errors.

    A secret is a `pydantic.SecretStr`; a path is a `pathlib.Path` and is taken relative to the
    configuration file. Both are resolved before the model sees them where they are references
    (`${ENV}`, `file:...`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result of a check: what was looked at, how it is, and what to do when it is not well."""

    subject: str
    severity: Severity
    message: str
    mend: str = ""


class Stop:
    """A flag that also wakes who waits elsewhere: a watch registers what unblocks it (closing a socket)."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._callbacks: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for at most `seconds`; True as soon as it is time to stop."""
        return self._event.wait(seconds)

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, on the stopping thread, when it is time to stop; at once if it already is."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def set(self) -> None:
        """Tell everyone to stop. A callback that fails does not keep the others from being called."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        errors = []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - collected and raised below
                errors.append(error)
        if errors:
            raise ExceptionGroup("callbacks of a stop failed", errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterContext:
    """What the core tells an adapter when it opens it.

    `name` is the registry's name in the configuration (`gateway` for the gateway, `coordinator` for the
    coordinator), `mesh`, `domain` and `trust_domain` are ours; `directory` is the folder of the configuration file.
    """

    name: str
    mesh: str
    domain: str
    trust_domain: str
    directory: Path

    def mark(self, peer: str, service: str, digest: str) -> Mark:
        """The mark for an entry of this registry."""
        return Mark(trust_domain=self.trust_domain, registry=self.name, peer=peer, service=service, digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterType:
    """A kind of adapter that a distribution provides.

    `kind` is what the configuration says (`kind: consul`) and equals the name of the entry point; one kind
    may be a registry, a gateway and a coordinator, as an adapter type for each.
    `open` takes the validated options and the context and returns an object that implements the
    role's hooks. It raises `ConfigError` for options that contradict each other, and does nothing else that could
    fail or be seen: it asks no backend (one that is down is for the hooks to report), reads and writes no file,
    and starts no thread and no process. `hamlet config check`, and `hamlet check` without an agent, open and close
    every adapter beside whatever runs.
    `api_version` is the `API_VERSION` that the adapter was made for, written as a number: the constant would be
    that of the core it happens to run on.
    `backend` is `module:factory`, or empty: `factory(options)` returns the `RegistryBackend`, `GatewayBackend` or
    `CoordinatorBackend` (as the role is) of a backend in use. `hamlet verify-adapter` alone imports it, so that
    every check of the contract can be run by whoever has the plugin; an agent never does, as it needs pytest.
    """

    kind: str
    role: Role
    options: type[AdapterOptions]
    open: Callable[..., object]
    api_version: int
    summary: str = ""
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """The adapter that `hamlet_wrappers` is asked about.

    Whoever opens adapters asks, as `hamlet config check` beside whatever runs. What `AdapterType.open` promises
    holds for the answer: `ConfigError` for what is missing in the environment, and nothing else that could be seen.
    """

    name: str
    kind: str
    role: Role


class AgentSpec:
    """Hooks of a plugin's module: what it brings to the agent."""

    @hookspec
    def hamlet_adapters(self) -> Iterable[AdapterType]:
        """Return the adapter types that this distribution provides."""

    @hookspec
    def hamlet_commands(self) -> Iterable[click.Command]:
        """Return commands to add to `hamlet`, each under its own name.

        Plugins are asked only when a command is typed that `hamlet` does not have. What one of them gets wrong is
        told by `hamlet plugins`, and takes nothing from the others; a name that two of them add is refused.
        """

    @hookspec
    def hamlet_wrappers(self, adapter: Wrapped) -> object | None:
        """Return an object whose hook wrappers stand around this adapter's hooks, or None.

        It is registered on the adapter's own plugin manager: an audit, a dry run, a rate limit.
        """


class RegistrySpec:
    """Hooks of a registry adapter. The numbers are those of the checks in `hamlet_core.api.testing`."""

    @hookspec(firstresult=True)
    def registry_watch(self, stop: Stop) -> Iterator[Batch]:
        """Yield the local services: a `Snapshot` first, then changes, or a `Snapshot` again.

        R1. The first batch MUST be a `Snapshot` of all local services that could be published, each with all
            that the registry has of it; an empty registry yields an empty one. What comes, changes and goes
            then MUST follow within seconds: the checks allow 20.
        R2. It MUST NOT contain what carries a mark, be it of another agent that shares the backend: what is
            imported is never published on.
        R3. It MUST raise `RegistryUnavailable`, within as many seconds, when the backend cannot be reached or does
            not answer, at all or as the caller of record (a token without rights): an outage is never an empty
            snapshot. The core keeps what it knows and calls again with backoff.
        R4. It MUST end within a second of `stop`, and leave no thread or socket behind.
        After a gap it cannot bridge it SHOULD yield a new `Snapshot`; it MAY repeat what did not change. A backend
        that falls silent while a watch waits for news MAY be noticed later.
        """

    @hookspec(firstresult=True)
    def registry_imports(self) -> Sequence[StandingImport]:
        """List what carries our mark, exactly our trust domain's and this registry's.

        R5. After a restart it MUST list every import written before, with its digest: the backend is the
            store of what was imported. An entry changed by someone else since has an empty digest.
        The core calls it before it writes anything, then every five minutes (what someone else has removed or
        changed since is written again), at each `Snapshot` of the watch, and after a call that raised, before it
        tries again. Nothing is written meanwhile; the call has a minute, as each has.
        It raises `RegistryUnavailable` rather than leave anything out.
        """

    @hookspec(firstresult=True)
    def registry_apply(self, changes: Sequence[ImportChange]) -> Sequence[Outcome]:
        """Write imports into the registry, and take them out; one outcome per change, in their order.

        R6. It MUST be idempotent, and mark in the backend itself what it writes. An import that moves to
            another local name comes as a removal and, after it, a write of the same key.
        R7. It MUST NOT change or remove an entry without our mark, and MUST reject a write that would:
            the outcome is `REJECTED`, its reason names the entry in the way. A removal that meets such an
            entry leaves it and is `APPLIED`: ours is gone.
        R8. One change that fails MUST NOT fail the others.
        A write that timed out may still be under way: the next call waits for it. It raises
        `RegistryUnavailable` when nothing could be tried.
        """

    @hookspec(firstresult=True)
    def registry_mark_peer(self, peer: str, lost_since: datetime | None) -> bool:
        """Record in the backend, visibly, since when `peer` is lost (UTC), or None: it is back.

        R9. It is one mark per peer, not one per entry, and MUST be listed by `registry_imports` after a
            restart. Entries of a lost peer stay: they are retained. A peer without entries needs
            no mark. A mark that could not be made MUST NOT be said to stand: it raises `RegistryUnavailable`.
            Return True (pluggy takes None for no answer).
        """

    @hookspec(firstresult=True)
    def registry_check(self) -> Sequence[Finding]:
        """Say whether the backend can be reached, its version is supported and each needed right is held.

        R10. It MUST NOT raise for what it was asked to find out: a backend that cannot be reached or does not answer,
            and a right that is missing, are errors among the findings. It MUST say what is well, too: there is
            always a finding.
        """

    @hookspec
    def registry_observed(self, batch: Batch) -> None:
        """See every batch of `registry_watch` after the core has taken it. For wrappers, not adapters."""

    @hookspec
    def registry_close(self) -> None:
        """Release everything. Called once, after the watch has ended and the last write has returned."""


class GatewaySpec:
    """Hooks of a gateway: how calls enter this mesh, and how they leave it.

    `gateway_trust` is called before `gateway_publish` and `gateway_import`; those two get the whole desired
    set each time, so that a call that failed is mended by the next. The core publishes a service once its
    routes stand, and takes a route away after the service is withdrawn; it writes an import into the
    registries once its route is known, and takes the route away after the entry is gone.

    Where a control plane stands between the adapter and its proxies (Istio, Consul), what the rules say of the
    return of a call holds once the control plane has accepted it and its proxies have heard of it.
    """

    @hookspec(firstresult=True)
    def gateway_ingress(self, stop: Stop) -> Iterator[Ingress | None]:
        """Yield how other meshes reach this one, as soon as it is known and whenever it changes.

        None says that this gateway has no ingress by its settings: it leads calls out only. It may be called
        before `gateway_trust`: how the mesh is reached does not wait for a certificate.
        G1. An ingress MUST have at least one endpoint and one SAN; the SANs are those that it presents.
        G2. It MUST raise `GatewayUnavailable` while that is not known (no address assigned yet, the API out
            of reach): what was published stays, and the core calls again with backoff.
        G3. It MUST end within a second of `stop`, and leave no thread or socket behind.
        """

    @hookspec(firstresult=True)
    def gateway_trust(self, trust: Trust) -> bool:
        """Take our certificate and whom to believe; called again whenever a part of it changes.

        G4. New connections MUST be judged by it from the return of the call on; standing connections of a
            peer that is no longer in it MUST be cut within seconds: the checks allow 20. Return True (pluggy
            takes None for no answer).
        """

    @hookspec(firstresult=True)
    def gateway_publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """Make the ingress lead each server name to its endpoints, for its peers and nobody else.

        G5. When it returns, every route that is not among the refusals MUST be in force, and nothing
            else. No two routes have the same SNI. A workload of a peer is who has a certificate for the peer's
            trust domain by the peer's bundle: no authority vouches for workloads of another peer, and whoever
            else calls MUST be refused.
        G6. It MUST be idempotent, and one route's refusal MUST NOT keep another from its place. It raises
            `GatewayUnavailable` when nothing came into force: what stood before still stands then.
        """

    @hookspec(firstresult=True)
    def gateway_import(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None
    ) -> Mapping[ImportKey, ImportAnswer]:
        """Make each service reachable for the workloads of this mesh, and say how; one answer per route.

        `keep` are imports whose entries still stand and whose content is not known (after a restart, before
        their owner has spoken): what is there for them stays as it is. None stands for all: some registry
        has not said yet what stands in it, and nothing may be taken away.
        G7. A route MUST lead to its own service, and have the same addresses as long as it is wanted or kept,
            restarts included; what is neither MUST lead nowhere.
        G8. The identity of the owner's ingress MUST be checked: against that peer's bundle alone, and to be
            one of the service's SANs. A service without SANs is refused.
        G9. A gateway MUST refuse what it does not lead: without a way out every import; without an ingress, of
            which `gateway_ingress` yields None, every route of `gateway_publish`.
        G6 holds here too.
        """

    @hookspec(firstresult=True)
    def gateway_check(self) -> Sequence[Finding]:
        """Say whether the gateway can be reached, its version is supported and it runs what it was given.

        G10. It MUST NOT raise for what it was asked to find out: a gateway that cannot be reached is an error
            among the findings.
        """

    @hookspec
    def gateway_close(self) -> None:
        """Release everything. Called once, after all other calls have returned.

        What the gateway leads may go on without an agent (a control plane, a proxy of one's own) or end with it. An
        agent that was killed calls nothing: what the next one is told takes the place of whatever it left.
        """


class CoordinatorSpec:
    """Hooks of a coordinator: which one of several agents of one mesh leads, while the others stand by.

    The core runs registries, gateways and peers only while this agent leads. When the lead is lost it stops all
    of that at once, withdraws and deletes nothing, and stands by again: whoever leads then adopts what stands in
    the backends. Without a coordinator the one agent there is leads.
    """

    @hookspec(firstresult=True)
    def coordinator_lead(self, stop: Stop) -> Iterator[bool]:
        """Yield whether this agent leads: first as soon as that is known, then whenever it changes.

        C1. In one backend at most one agent of a mesh, which is its trust domain and its name, MUST lead at any
            time. Agents of another mesh MUST NOT have a say in it.
        C2. An agent that cannot renew its lead MUST yield False or raise `CoordinatorUnavailable` before another
            one may lead: by its own monotonic clock against the time-to-live in the backend, and so much
            earlier that it can stop what it does.
        C3. A leader that is stopped MUST give the lead up at once. One that was killed MUST be followed when its
            time-to-live is over.
        C4. It MUST end within a second of `stop`, and leave no thread or socket behind.
        C5. It MUST NOT change or remove what carries another's mark or none: it raises
            `CoordinatorUnavailable`, which names what is in the way.
        It raises `CoordinatorUnavailable` too while the backend is out of reach: nobody leads then who did not
        before, and the core calls again with backoff. `lead_by_renewing` keeps C2 and C4 for a backend with a
        time-to-live.
        """

    @hookspec(firstresult=True)
    def coordinator_check(self) -> Sequence[Finding]:
        """Say whether the backend can be reached, who leads, and whether each needed right is held.

        It is called beside `coordinator_lead`, and where that is never called.
        C6. It MUST NOT raise for what it was asked to find out: a backend that cannot be reached is an error
            among the findings. It MUST NOT take the lead or change anything.
        """

    @hookspec
    def coordinator_close(self) -> None:
        """Release everything. Called once, after `coordinator_lead` has ended."""
