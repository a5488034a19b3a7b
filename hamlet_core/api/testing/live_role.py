"""What the checks on a live backend need of each role: an adapter, hands where there are any, and tidying up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeAlias

from hamlet_core.api import AdapterContext
from hamlet_core.api.testing.left_out import not_run

Open: TypeAlias = Callable[[AdapterContext], object]
"""Opens the adapter under test as it is configured."""


class LiveRole(ABC):
    """One subject of a run: a registry, a gateway or a coordinator that may be in use."""

    suite: str
    """The class in `live_suite` that has its checks."""

    def prepare(self) -> None:  # noqa: B027 - most need none
        """Find out which checks apply, once nothing of an earlier run is left."""

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


def attempt(what: str, act: Callable[..., object], *arguments: object) -> Iterator[str]:
    """Take something out; yield what is left behind, and why, where that fails."""
    try:
        act(*arguments)
    except Exception as error:  # noqa: BLE001 - tidying goes on, and the report says what it could not
        yield f"{what}: {type(error).__name__}: {error}"
