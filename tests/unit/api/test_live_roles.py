"""What `hamlet verify-adapter` does around the checks: it finds the backend, ends what hangs, and tidies up."""

from __future__ import annotations

import ast
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

import hamlet_core.api.testing as kit
from hamlet_core.api import (
    AdapterContext,
    ConfigError,
    CoordinatorUnavailable,
    GatewayUnavailable,
    HamletError,
    ImportedService,
    LocalService,
    RegistryUnavailable,
)
from hamlet_core.api.testing import (
    CoordinatorBackend,
    MemoryCoordinator,
    MemoryGateway,
    MemoryGatewayBackend,
    MemoryRegistry,
    imported_service,
    local_service,
    not_run,
)
from hamlet_core.api.testing.live import require_reach
from hamlet_core.api.testing.live_coordinator import LiveCoordinator
from hamlet_core.api.testing.live_gateway import LiveGateway
from hamlet_core.api.testing.live_registry import LiveRegistry
from hamlet_core.api.testing.live_role import LiveRole, attempt, within
from hamlet_core.api.testing.rewritten import MODULES

STOCK = imported_service("stock", "hamletverify-east")
BILLING = local_service("billing", "10.0.0.5")


def opens_nothing(context: AdapterContext) -> NoReturn:
    raise AssertionError(context)


@pytest.fixture
def context(tmp_path: Path) -> AdapterContext:
    return AdapterContext(
        name="coordinator", mesh="hamletverify", domain="v.example", trust_domain="v.example", directory=tmp_path
    )


# What the hands make is taken out again


class Sweeping(MemoryRegistry):
    """Hands in which a run was killed that had put BILLING and STOCK there."""

    def __init__(self) -> None:
        super().__init__()
        self.add_local(BILLING)
        self.add_foreign(STOCK)

    def sweep(self) -> None:
        self.remove_local(BILLING.name)
        self.remove_foreign(STOCK)


def test_what_a_killed_run_has_left_goes_before_the_checks_begin(tmp_path: Path) -> None:
    hands = Sweeping()
    role = LiveRegistry(opens_nothing, tmp_path, hands)
    assert list(role.tidy()) == []
    assert hands.entries(), "between checks only what they have made goes"
    assert list(role.tidy(thoroughly=True)) == []
    assert not hands.entries()


class Clumsy(MemoryRegistry):
    """Hands that raise once they have begun, or before."""

    def __init__(self, error: type[BaseException], *, made: bool) -> None:
        super().__init__()
        self.error, self.made = error, made

    def add_local(self, service: LocalService) -> str:
        if self.made:
            super().add_local(service)
        raise self.error

    def add_foreign(self, service: ImportedService) -> str:
        if self.made:
            super().add_foreign(service)
        raise self.error

    def remove_local(self, name: str) -> None:
        assert self.made, "there was never one"
        super().remove_local(name)

    def remove_foreign(self, service: ImportedService) -> None:
        assert self.made, "there was never one"
        super().remove_foreign(service)


@pytest.mark.parametrize(
    ("error", "made"),
    [(OSError, True), (KeyboardInterrupt, True), (FileExistsError, False), (pytest.skip.Exception, False)],
)
def test_what_hands_have_begun_is_taken_out_and_what_they_have_not_is_not(
    tmp_path: Path, error: type[BaseException], made: bool
) -> None:
    hands = Clumsy(error, made=made)
    live = LiveRegistry(opens_nothing, tmp_path, hands)
    for make, what in ((live.backend.add_local, BILLING), (live.backend.add_foreign, STOCK)):
        with pytest.raises(error):
            make(what)  # type: ignore[operator]
    assert (list(live.tidy()), hands.entries()) == ([], {})


def test_an_entry_of_others_that_stands_already_is_taken_out_all_the_same(tmp_path: Path) -> None:
    class Once(MemoryRegistry):
        def add_foreign(self, service: ImportedService) -> str:
            if service.local_name in self.by_name:
                raise FileExistsError
            return super().add_foreign(service)

    hands = Once()
    live = LiveRegistry(opens_nothing, tmp_path, hands)
    live.backend.add_foreign(STOCK)
    with pytest.raises(FileExistsError):
        live.backend.add_foreign(STOCK)
    assert (list(live.tidy()), hands.entries()) == ([], {})


def test_what_is_half_put_in_the_way_of_a_lead_is_taken_out(tmp_path: Path, context: AdapterContext) -> None:
    class Half(MemoryCoordinator):
        def add_foreign(self, context: AdapterContext) -> str:
            super().add_foreign(context)
            raise ConnectionResetError

    hands = Half()
    live = LiveCoordinator(opens_nothing, tmp_path, hands)
    with pytest.raises(ConnectionResetError):
        live.backend.add_foreign(context)
    assert (list(live.tidy()), hands.entries()) == ([], {})


def test_what_is_gone_already_is_taken_out(context: AdapterContext) -> None:
    registry, coordinator = MemoryRegistry(), MemoryCoordinator()
    registry.remove_local(BILLING.name)
    registry.remove_foreign(STOCK)
    coordinator.remove_foreign(context)


# What cannot be done where the backend is


class Barred(MemoryGatewayBackend):
    def open(self, context: AdapterContext) -> NoReturn:
        not_run(needs="the right to change the gateway")


def test_where_nobody_may_open_an_adapter_nothing_is_left_behind(tmp_path: Path) -> None:
    class BarredRegistry(MemoryRegistry):
        def open(self, context: AdapterContext) -> NoReturn:
            not_run(needs="the right to read the registry")

    barred = Barred(MemoryGateway())
    gateway = LiveGateway(opens_nothing, tmp_path, barred, key="gateway")
    gateway.prepare()
    assert gateway.suite == "TestGateway", "the checks of both ways say that they were not run"
    for role in (gateway, LiveRegistry(opens_nothing, tmp_path, BarredRegistry())):
        require_reach(role)
        assert list(role.tidy(thoroughly=True)) == []
    gateway.close()


# A backend that is not there


def gone_registry(folder: Path) -> LiveRole:
    hands = MemoryRegistry()
    hands.down = True
    return LiveRegistry(opens_nothing, folder, hands)


def gone_gateway(folder: Path) -> LiveRole:
    class Gone(MemoryGatewayBackend):
        def open(self, context: AdapterContext) -> NoReturn:
            message = "it is not there"
            raise GatewayUnavailable(message)

    return LiveGateway(opens_nothing, folder, Gone(MemoryGateway()), key="gateway")


def gone_coordinator(folder: Path) -> LiveRole:
    class Gone(MemoryCoordinator):
        def open(self, context: AdapterContext) -> Any:
            adapter = super().open(context)
            self.out_of_reach.add(adapter)
            return adapter

    return LiveCoordinator(opens_nothing, folder, Gone())


@pytest.mark.parametrize(
    ("gone", "raised"),
    [
        (gone_registry, RegistryUnavailable),
        (gone_gateway, GatewayUnavailable),
        (gone_coordinator, CoordinatorUnavailable),
    ],
)
def test_a_backend_that_is_not_there_is_said_to_be_gone(
    tmp_path: Path, gone: Callable[[Path], LiveRole], raised: type[HamletError]
) -> None:
    role = gone(tmp_path)
    with pytest.raises(raised):
        require_reach(role)
    role.close()


@pytest.mark.parametrize("ttl", [None, 0, "15s"])
def test_a_backend_of_a_coordinator_that_does_not_say_its_seconds_is_told(tmp_path: Path, ttl: Any) -> None:
    hands = MemoryCoordinator()
    hands.ttl = ttl
    with pytest.raises(ConfigError, match="which are seconds that a lead counts for"):
        LiveCoordinator(opens_nothing, tmp_path, hands)


def test_a_coordinator_that_was_asked_is_led_by_nobody(tmp_path: Path) -> None:
    hands: CoordinatorBackend = MemoryCoordinator()
    require_reach(LiveCoordinator(opens_nothing, tmp_path, hands))
    assert hands.entries() == {}


def test_what_else_is_wrong_with_an_adapter_is_for_the_checks_to_say(tmp_path: Path) -> None:
    def broken(context: AdapterContext) -> NoReturn:
        raise SystemExit(7)

    def hanging(context: AdapterContext) -> object:
        return threading.Event().wait()

    for opens in (broken, hanging):
        require_reach(LiveRegistry(opens, tmp_path), seconds=0.1)


# What hangs


def test_each_thing_that_is_taken_out_has_its_time_and_no_more() -> None:
    def hangs() -> None:
        while True:
            with contextlib.suppress(Exception):
                threading.Event().wait()

    with within(0.5):
        assert list(attempt("this", hangs)) == ["this: Late: it had not ended after 0.5 s"]
        assert list(attempt("that", hangs)) == ["that: Late: it had not ended after 0.5 s"]
        assert list(attempt("nothing", int)) == []
    assert list(attempt("nothing", int)) == []


def test_what_hangs_in_its_end_too_is_ended() -> None:
    def hangs() -> Iterator[None]:
        try:
            threading.Event().wait()
        finally:
            threading.Event().wait()
        yield

    with pytest.raises(TimeoutError, match="it had not ended"), within(0.1):
        list(hangs())


def test_ctrl_c_is_no_failure_to_take_out() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(attempt("this", interrupted))


# The assertions of the checks


def test_the_assertions_of_every_check_are_explained() -> None:
    (folder,) = kit.__path__
    asserting = {
        f"{kit.__name__}.{path.stem}"
        for path in Path(folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and any(isinstance(each, ast.Assert) for each in ast.walk(node))
    }
    assert asserting, "there are none"
    assert asserting <= set(MODULES)
