"""Blocking queries on threads of their own, and the box in which their latest answers are found.

The rules are those of Consul's documentation of blocking queries. What an answer means is not known here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from hamlet_consul.client import Answer, Block
from hamlet_consul.transport import jittered

PAUSE_PER_ITEM = 40e-6
"""Seconds left to Consul and to us after an answer, for each thing in it: about what reading it took."""
PAUSE_LIMIT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """The latest answer of a query; `reset`: its index went backwards, Consul's state is another one."""

    answer: Answer
    reset: bool = False


class Box:
    """Where followers put their news, the latest of each, and the watch takes them."""

    def __init__(self) -> None:
        self._news: dict[str, News] = {}
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()

    def put(self, source: str, news: News) -> None:
        """There is news; what was not taken yet is replaced."""
        with self._changed:
            missed = self._news.get(source)
            reset = news.reset or (missed is not None and missed.reset)
            self._news[source] = News(answer=news.answer, reset=reset)
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """A follower cannot go on."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify()

    def stop(self) -> None:
        """Nobody shall wait any longer."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def take(self, seconds: float) -> dict[str, News]:
        """Wait for news for at most so long; raise what a follower failed with."""
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._error or self._stopped, max(seconds, 0))
            if self._error is not None and not self._stopped:
                raise self._error
            news, self._news = self._news, {}
            return news


class Alarm:
    """Tells the watches that run of an error that any other call has met and that holds for theirs, too.

    Consul goes on answering a query that waits after the token has been deleted, until its wait is over.
    """

    def __init__(self) -> None:
        self._boxes: set[Box] = set()
        self._lock = threading.Lock()

    def ring(self, error: BaseException) -> None:
        """Have them end with this error."""
        with self._lock:
            for box in self._boxes:
                box.fail(error)

    @contextmanager
    def reaching(self, box: Box) -> Iterator[None]:
        """For as long as the watch of this box runs."""
        with self._lock:
            self._boxes.add(box)
        try:
            yield
        finally:
            with self._lock:
                self._boxes.discard(box)


def next_index(answered: int) -> int:
    """The index to wait from: what was answered, also when it went backwards, and never below 1.

    An index below 1 would not wait at all (Consul, "Blocking queries": sanity check).
    """
    return max(answered, 1)


class Follower:
    """Waits for one query to change, again and again, on a thread, until `stop` or the first error."""

    def __init__(
        self, source: str, read: Callable[[Block], Answer], first: Answer, wait: timedelta, box: Box
    ) -> None:
        self._source, self._read, self._wait, self._box = source, read, wait, box
        self._index = next_index(first.index)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"consul-{source}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                answer = self._read(Block(index=self._index, wait=self._wait))
                if answer.index == self._index:
                    continue
                reset = answer.index < self._index
                self._index = next_index(answer.index)
                self._box.put(self._source, News(answer=answer, reset=reset))
                self._stop.wait(jittered(min(PAUSE_LIMIT, PAUSE_PER_ITEM * len(answer.data or ()))))
        except Exception as error:  # noqa: BLE001 - raised by the watch, on its own thread
            if not self._stop.is_set():
                self._box.fail(error)

    def stop(self) -> None:
        """Begin no further query. The one under way ends when its client is closed."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread to end."""
        self._thread.join()
