"""The hooks of a coordinator that the page for authors shows keep the contract, over a server in memory."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from hamlet_core.api import AdapterContext
from hamlet_core.api.testing import CoordinatorBackend, CoordinatorContract
from tests.docs.blocks import blocks
from tests.docs.test_writing_an_adapter import PAGE

TTL = 2.0


def shown() -> type:
    """The class of the page, whose leads last as long as is said here."""
    (block,) = (each for each in blocks(PAGE) if each.heading == "A coordinator" and each.title)
    there: dict[str, Any] = {"__name__": __name__}
    exec(compile(block.text, str(PAGE), "exec"), there)
    there["TTL"] = TTL
    found: type = there["Leading"]
    return found


class Server:
    """Keys that run out, on a way that can be cut; those of all ways are the same."""

    def __init__(self, keys: dict[str, tuple[str, float]], lock: threading.Lock) -> None:
        self.keys, self.lock = keys, lock
        self.cut = False

    def take(self, key: str, holder: str, seconds: float) -> str:
        with self._reached():
            has, until = self.keys.get(key, (holder, math.inf))
            if has == holder or until < time.monotonic():
                has, until = self.keys[key] = (holder, time.monotonic() + seconds)
            return has

    def give_up(self, key: str, holder: str) -> None:
        with self._reached():
            if self.keys.get(key, ("", 0.0))[0] == holder:
                del self.keys[key]

    def holder(self, key: str) -> str | None:
        with self._reached():
            return self.keys.get(key, (None, 0.0))[0]

    def close(self) -> None:
        """It holds nothing."""

    @contextmanager
    def _reached(self) -> Iterator[None]:
        if self.cut:
            message = "cut"
            raise OSError(message)
        with self.lock:
            yield


class Backend(CoordinatorBackend):
    def __init__(self) -> None:
        self.ttl = TTL
        self.keys: dict[str, tuple[str, float]] = {}
        self.lock = threading.Lock()
        self.numbers = itertools.count()

    def open(self, context: AdapterContext) -> object:
        return shown()(Server(self.keys, self.lock), context, str(next(self.numbers)))

    @contextmanager
    def cut(self, adapter: Any) -> Iterator[None]:
        adapter._server.cut = True
        try:
            yield
        finally:
            adapter._server.cut = False

    def add_foreign(self, context: AdapterContext) -> str:
        key = f"hamlet/{context.trust_domain}/{context.mesh}/leader"
        self.keys[key] = ("somebody", math.inf)
        return key

    def entries(self) -> Mapping[str, object]:
        return dict(self.keys)


class TestCoordinatorOfThePage(CoordinatorContract):
    @pytest.fixture
    def backend(self) -> CoordinatorBackend:
        return Backend()
