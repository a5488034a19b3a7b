"""The importing half of the agent: what owners send goes to the reconciler of each registry, and its plan to it.

One lane per registry: a registry that is down or slow holds up its own imports only. Nothing is decided
here; the reconcilers decide, the ports act, and the lanes carry between them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from hamlet_core import backoff
from hamlet_core.agent.gateway import Gateway
from hamlet_core.api import (
    AdapterError,
    GatewayUnavailable,
    HamletError,
    ImportChange,
    ImportKey,
    Outcome,
    RegistryUnavailable,
    Status,
    WriteImport,
)
from hamlet_core.config.model import Config
from hamlet_core.imports.reconciler import Reconciler
from hamlet_core.imports.status import Settled, State
from hamlet_core.plugins.registry_port import RegistryPort
from hamlet_core.rpc.consumer import INVALID_ARGUMENT, UNAVAILABLE, Received, Verdict
from hamlet_core.wire.messages import Offer, Unreadable, Withdraw

log = structlog.get_logger()

BATCH = 1_000
"""Changes handed to a registry in one call; each call costs a Consul some 6 ms beside its writes (`bench consul`)."""
DRIFT_CHECK = 300.0
"""Seconds between two looks at what the registry really holds."""
RETRY_CAP = 60.0
"""Longest delay, in seconds, before a registry that was down is asked again."""
TOLD = 10
"""So many names of services stand in one line of the log."""
ANSWER_WITHIN = 20.0
"""Seconds after which an owner is told to try again, because the registry has not taken its service yet.

A message may wait for the batch before it, too: twice this must be less than an owner waits for answers.
"""

_PENDING = Settled(state=State.PENDING)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Lane:
    """One registry: its reconciler, its port, and the loop between them."""

    def __init__(self, port: RegistryPort, reconciler: Reconciler, gateway: Gateway | None = None) -> None:
        self.port = port
        self.reconciler = reconciler
        self._gateway = gateway
        self.error = ""
        """Why the registry takes no imports now, or an empty string."""
        self.mend = ""
        """What to do about it, where the error says so."""
        self._wake = asyncio.Event()
        self._back = asyncio.Event()
        self._turn = asyncio.Condition()
        self._look_at = 0.0
        self._not_routed = ""
        """Why the gateway could not be asked for the routes that writes wait for; removals go on."""
        self._asked_in_vain = 0
        self._ask_at = 0.0

    def wake(self) -> None:
        """There is something to plan."""
        self._wake.set()

    def look_again(self) -> None:
        """Compare with what the registry really holds, as soon as possible: it has come back, or lost its place."""
        self._look_at = 0.0
        self._wake.set()
        self._back.set()

    def routed(self) -> None:
        """The gateway has answered somebody: what waits for it may go on."""
        self._ask_at = 0.0
        self._wake.set()

    async def settled(self, keys: Iterable[ImportKey], until: float) -> dict[ImportKey, Settled]:
        """What became of the latest change of each key; PENDING for what is not settled by `until` (loop time).

        While the registry takes no imports it does not wait: nothing will become of them soon.
        """
        found = dict.fromkeys(keys, _PENDING)
        still_open = set(found)

        def done() -> bool:
            for key in tuple(still_open):
                found[key] = self.reconciler.settled(key)
                if found[key].state is not State.PENDING:
                    still_open.discard(key)
            return not still_open or bool(self.error)

        await self._until(done, until)
        return found

    async def emptied(self, peer: str, until: float) -> bool:
        """Wait until nothing of `peer` is left in the registry; False when it is not by `until` (loop time)."""
        return await self._until(lambda: not self.reconciler.glance(peer).standing, until)

    async def _until(self, check: Callable[[], bool], until: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until), self._turn:
                return await self._turn.wait_for(check)
        return False

    async def run(self) -> None:
        """Look, ask for routes, plan, write, record; for ever."""
        attempt = 0
        while True:
            self._wake.clear()
            self._back.clear()  # before it is asked: what comes back meanwhile is no reason to wait
            try:
                await self._look()
                await self._route()
                busy = await self._write()
            except Exception as error:
                known = isinstance(error, RegistryUnavailable | AdapterError)
                self._say(str(error) if known else f"internal error: {error!r}")
                self.mend = error.mend if isinstance(error, HamletError) else ""
                self._look_at = 0.0
                await self._announce()
                if not known:
                    raise
                seconds = backoff.delay(attempt, RETRY_CAP)
                attempt += 1
                await self._pause(seconds)
                continue
            attempt = 0
            self._say(self._not_routed)
            await self._announce()
            if not busy:
                await self._rest()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._back.wait()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._look_at:
            self._look_at = loop.time() + DRIFT_CHECK  # before it is asked: `look_again` meanwhile means once more
            try:
                self.reconciler.adopt(await self.port.imports(), now())
            except BaseException:
                self._look_at = 0.0
                raise

    async def _route(self) -> None:
        """Have the gateway asked where imports lack a route, with backoff while it is out of reach."""
        if self._gateway is None or not self.reconciler.routes_due:
            self._not_routed, self._asked_in_vain, self._ask_at = "", 0, 0.0
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._ask_at:
            return
        try:
            await self._gateway.route()
        except (GatewayUnavailable, AdapterError) as error:
            self._not_routed = str(error)
            self._ask_at = loop.time() + backoff.delay(self._asked_in_vain, RETRY_CAP)
            self._asked_in_vain += 1
        else:
            self._not_routed, self._asked_in_vain = "", 0

    def _say(self, error: str) -> None:
        """Note why no imports are taken, or that they are (an empty string)."""
        if error and error != self.error:
            log.warning("imports wait", registry=self.port.name, error=error)
        elif self.error and not error:
            log.info("the registry takes imports again", registry=self.port.name)
        self.error, self.mend = error, ""

    async def _write(self) -> bool:
        for peer, lost_since in self.reconciler.marks(now()):
            await self.port.mark_peer(peer, lost_since)
            self.reconciler.marked(peer, lost_since)
        changes = self.reconciler.plan(now())
        for start in range(0, len(changes), BATCH):
            batch = changes[start : start + BATCH]
            began = time.monotonic()
            try:
                outcomes = await self.port.apply(batch)
                if time.monotonic() - began >= ANSWER_WITHIN and all(o.status is Status.RETRY for o in outcomes):
                    raise RegistryUnavailable(outcomes[0].reason)  # it hangs: the next batch would wait as long
            except Exception as error:
                # Whatever it was: a change that stays in flight would never be tried again.
                retry = [Outcome(key=c.key, status=Status.RETRY, reason=str(error)) for c in changes[start:]]
                self.reconciler.record(retry, now())
                raise
            for outcome in outcomes:
                if outcome.status is not Status.APPLIED:
                    log.warning(
                        "import not applied", registry=self.port.name, peer=outcome.key.peer,
                        service=outcome.key.name, status=outcome.status.value, reason=outcome.reason,
                    )  # fmt: skip
            self.reconciler.record(outcomes, now())
            self._tell(batch, outcomes)
            await self._announce()
        return bool(changes)

    def _tell(self, batch: Sequence[ImportChange], outcomes: Sequence[Outcome]) -> None:
        """One line for each peer of what was written and removed."""
        done = [change for change, outcome in zip(batch, outcomes, strict=True) if outcome.status is Status.APPLIED]
        for peer in dict.fromkeys(change.key.peer for change in done):
            written = [c.key.name for c in done if c.key.peer == peer and isinstance(c, WriteImport)]
            removed = [c.key.name for c in done if c.key.peer == peer and not isinstance(c, WriteImport)]
            log.info(
                "imports changed", registry=self.port.name, peer=peer, written=len(written), removed=len(removed),
                services=[*written, *removed][:TOLD],
            )  # fmt: skip

    async def _announce(self) -> None:
        async with self._turn:
            self._turn.notify_all()

    async def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        due = self.reconciler.next_due(now())
        until = self._look_at if due is None else min(self._look_at, loop.time() + (due - now()).total_seconds())
        until = min(until, self._ask_at) if self._not_routed else until
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            return


class Importer:
    """All lanes together, as the streams see them (`rpc.consumer.ImportSink`)."""

    def __init__(self, config: Config, lanes: Sequence[Lane]) -> None:
        self._config = config
        self.lanes = tuple(lanes)
        self.stopping = False

    def configure(self, config: Config) -> frozenset[str]:
        """Take over a changed configuration: what a removed peer left is withdrawn at once.

        Returns the peers whose catalog must be walked anew, since some of it was refused without being kept.
        """
        self._config = config
        walk = [lane.reconciler.configure(config, now()) for lane in self.lanes]
        self._wake()
        return frozenset().union(*walk)

    def set_local_names(self, names: frozenset[str]) -> None:
        """The names that local services have; no import may take one."""
        for lane in self.lanes:
            lane.reconciler.set_local_names(names)
        self._wake()

    def begin(self, peer: str) -> None:
        """See `ImportSink`."""
        log.info("catalog begins", peer=peer)
        for lane in self.lanes:
            lane.reconciler.begin(peer, now())
        self._wake()

    def complete(self, peer: str) -> None:
        """See `ImportSink`."""
        log.info("catalog complete", peer=peer)
        for lane in self.lanes:
            lane.reconciler.complete(peer, now())
        self._wake()

    def lost(self, peer: str) -> None:
        """See `ImportSink`."""
        if peer not in self._config.peers:
            return  # removed: what came from it is being withdrawn
        if self.stopping:
            return  # we leave, not the peer
        log.warning("peer lost; its services are kept", peer=peer)
        for lane in self.lanes:
            lane.reconciler.lost(peer, now())
        self._wake()

    def confirm(self, peer: str) -> int:
        """Let the held removals of a peer pass; returns how many there were."""
        confirmed = max((lane.reconciler.confirm(peer, now()) for lane in self.lanes), default=0)
        self._wake()
        return confirmed

    def leave(self, peer: str) -> None:
        """Withdraw everything that came from a peer."""
        for lane in self.lanes:
            lane.reconciler.leave(peer, now())
        self._wake()

    async def emptied(self, peer: str, within: timedelta) -> bool:
        """Wait until nothing of `peer` is left in any registry; False when that takes longer than `within`."""
        until = asyncio.get_running_loop().time() + within.total_seconds()
        return all(await asyncio.gather(*(lane.emptied(peer, until) for lane in self.lanes)))

    async def deliver(self, peer: str, received: Sequence[Received]) -> Sequence[Verdict]:
        """See `ImportSink`."""
        settings = self._config.peers.get(peer)
        if settings is None:
            return [Verdict(UNAVAILABLE, "this mesh no longer has you as its peer")] * len(received)
        lanes = [lane for lane in self.lanes if lane.reconciler.takes(peer)]
        refusals = [[self._hand_over(peer, each, lane.reconciler) for lane in lanes] for each in received]
        for lane in lanes:
            lane.wake()
        # Our own patience as an owner stands for that of the peer, which we do not know.
        wait = min(timedelta(seconds=ANSWER_WITHIN), settings.ack_timeout / 3).total_seconds()
        until = asyncio.get_running_loop().time() + wait
        keys = dict.fromkeys(ImportKey(peer, each.message.name) for each in received)
        settled = await asyncio.gather(*(lane.settled(keys, until) for lane in lanes))
        return [
            Verdict(INVALID_ARGUMENT, next(filter(None, refused)))
            if any(refused)
            else self._verdict(each, [found[ImportKey(peer, each.message.name)] for found in settled])
            for each, refused in zip(received, refusals, strict=True)
        ]

    @staticmethod
    def _hand_over(peer: str, received: Received, reconciler: Reconciler) -> str | None:
        """Tell a reconciler; the reason when it refuses, which it need not keep for each of very many."""
        message = received.message
        if isinstance(message, Offer):
            reason = reconciler.offer(peer, message.service, received.size, now())
        elif isinstance(message, Withdraw):
            reason = None
            reconciler.withdraw(peer, message.name, now())
        else:
            reason = reconciler.refuse(peer, message.name, message.reason, now()) if message.name else message.reason
        if reason:
            log.warning("service refused", peer=peer, service=message.name[:255], reason=reason)
        return reason

    @staticmethod
    def _verdict(received: Received, settled: Sequence[Settled]) -> Verdict:
        """One answer for all registries that import: the worst of what they say."""
        if isinstance(received.message, Unreadable):
            return Verdict(INVALID_ARGUMENT, received.message.reason)
        for each in settled:
            if each.state is State.REJECTED:
                return Verdict(INVALID_ARGUMENT, "our registry cannot hold it" if each.by_registry else each.reason)
        if any(each.state in (State.RETRY, State.PENDING) for each in settled):
            return Verdict(UNAVAILABLE, "our registry has not taken it yet")
        return Verdict()

    def look_again(self) -> None:
        """What held up the imports may be over: let every lane try at once."""
        for lane in self.lanes:
            lane.look_again()

    def routed(self) -> None:
        """The gateway has said how imports are reached, or can be asked again."""
        for lane in self.lanes:
            lane.routed()

    def _wake(self) -> None:
        for lane in self.lanes:
            lane.wake()
