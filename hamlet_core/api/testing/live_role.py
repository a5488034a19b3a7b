"""What the checks on a live backend need of each role: an adapter, hands where there are any, and tidying up."""

from __future__ import annotations

import contextlib
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeAlias, TypeVar

import pytest

from hamlet_core.api import AdapterContext
from hamlet_core.api.testing.left_out import not_run

Open: TypeAlias = Callable[[AdapterContext], object]
"""Opens the adapter under test as it is configured."""
Thing = TypeVar("Thing")


class Late(BaseException):
    """A call has not ended in time. No `Exception`: an adapter that tries again would take it for an outage."""


class LiveRole(ABC):
    """One subject of a run: a registry, a gateway or a coordinator that may be in use."""

    suite: str
    """The class in `live_suite` that has its checks."""

    @abstractmethod
    def reach(self) -> None:
        """Ask the adapter for something, so that it raises where its backend is not there."""

    def prepare(self) -> Sequence[str]:
        """Find out which checks apply, once nothing of an earlier run is left; what the report says of that."""
        return ()

    @abstractmethod
    def tidy(self, *, thoroughly: bool = False) -> Iterator[str]:
        """Take out what the checks so far have left; yield what could not be, and why.

        `thoroughly` is for the beginning and the end of a run: what an earlier run left that was killed goes too.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything."""


def missing(does: str) -> NoReturn:
    """Leave the check out: there is nobody to do this."""
    not_run(needs=f"a backend that {does}")


def put(there: dict[str, Thing], name: str, thing: Thing, act: Callable[[Thing], str]) -> str:
    """Have somebody's hands make `thing`, and have it in `there` before anything of it can stand.

    It is taken from `there` again only where the hands say that nothing was made.
    """
    known = name in there
    there[name] = thing
    try:
        return act(thing)
    except (FileExistsError, pytest.skip.Exception):
        if not known:
            del there[name]
        raise


def attempt(what: str, act: Callable[..., object], *arguments: object) -> Iterator[str]:
    """Take something out; yield what is left behind, and why, where that fails or does not end `within` its time."""
    seconds = signal.getitimer(signal.ITIMER_REAL)[1]
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)  # what came before has taken nothing of the time
    try:
        act(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - tidying goes on, and the report says what it could not
        yield f"{what}: {type(error).__name__}: {error}"


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` where it has not ended after so long, a call that hangs included.

    What is under way is ended by `Late`, again and again, as what it does in the end may hang as well.
    """
    if threading.current_thread() is not threading.main_thread():  # the others get no signals
        yield
        return

    def late(*_: object) -> None:
        message = f"it had not ended after {seconds:g} s"
        raise Late(message)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    except Late as error:
        raise TimeoutError(str(error)) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
