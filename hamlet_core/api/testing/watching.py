"""A watch that a test looks at: the adapter's generator runs on a thread, its batches are folded here."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pluggy

from hamlet_core.api import Batch, LocalService, Snapshot, Stop, Upsert
from hamlet_core.api.testing.in_time import Late


class Watching:
    """Run `registry_watch` until `end`; `batches` are all that came, `state` what they amount to.

    With `only`, services without it in their name are passed over, and `others` says that there were some.
    """

    def __init__(self, hooks: pluggy.HookRelay, *, only: str = "", stop: Stop | None = None) -> None:
        self.batches: list[Batch] = []
        self.error: BaseException | None = None
        self.others = False
        self._hooks = hooks
        self._only = only
        self._stop = stop or Stop()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="contract-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for batch in self._hooks.registry_watch(stop=self._stop):
                seen = self._seen(batch)
                with self._news:
                    if seen is not None:
                        self.batches.append(seen)
                    self._news.notify_all()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            with self._news:
                self._news.notify_all()

    def _seen(self, batch: Batch) -> Batch | None:
        """The part of a batch that is looked at; None where it is all about services of others."""
        if not self._only:
            return batch
        if isinstance(batch, Snapshot):
            services = tuple(each for each in batch.services if self._only in each.name)
            self.others |= services != batch.services
            return Snapshot(services)
        changes = tuple(
            each for each in batch if self._only in (each.service.name if isinstance(each, Upsert) else each.name)
        )
        self.others |= changes != batch
        return changes or None

    @property
    def state(self) -> dict[str, LocalService]:
        """The local services by name, after everything that came so far."""
        services: dict[str, LocalService] = {}
        for batch in tuple(self.batches):
            if isinstance(batch, Snapshot):
                services = {service.name: service for service in batch.services}
                continue
            for change in batch:
                if isinstance(change, Upsert):
                    services[change.service.name] = change.service
                else:
                    services.pop(change.name, None)
        return services

    def until(self, wanted: Callable[[dict[str, LocalService]], object], seconds: float) -> dict[str, LocalService]:
        """Wait until the state is as wanted, after the first batch at the least, and return it."""
        with self._news:
            came = self._news.wait_for(
                lambda: (bool(self.batches) and wanted(self.state)) or not self._thread.is_alive(), seconds
            )
        if self.error is not None:
            message = f"the watch ended with {self.error!r} after {self.batches!r}"
            raise AssertionError(message) from self.error
        assert came and wanted(self.state), f"not within {seconds:g} s; so far: {self.batches!r}"
        return self.state

    def settled(self, wanted: Callable[[dict[str, LocalService]], object], seconds: float) -> bool:
        """Wait until the state is as wanted, or the watch has ended by itself; whether it goes on.

        One that does neither is left alone after `seconds`.
        """
        with self._news:
            self._news.wait_for(lambda: not self._thread.is_alive() or wanted(self.state), seconds)
        return self._thread.is_alive()

    def failed(self, seconds: float) -> BaseException | None:
        """Wait until the watch has ended by itself; return what it raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the watch goes on after {seconds:g} s; so far: {self.batches!r}"
        return self.error

    def end(self, seconds: float) -> None:
        """Stop the watch and require that it ends, without an error; `Late` while it goes on."""
        self._stop.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            message = f"the watch goes on {seconds:g} s after it was stopped"
            raise Late(message)
        if self.error is not None:
            message = f"the watch was stopped and raised {self.error!r}"
            raise AssertionError(message) from self.error
