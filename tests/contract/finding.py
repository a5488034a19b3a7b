"""The frame of the tests that the kit is right: what has one fault is found by the check meant for it."""

import inspect
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import pytest

from hamlet_core.api.testing.rules import named, rules_of


class FindsFaults(ABC):
    """Subclass it for a kind of adapter: `faults` are the broken ones by the check that must find each.

    `contracts` have the checks, whose rules are those of `spec`. Without those that are `gross` no check of another
    rule can be passed either, so of them alone it is not asked that no other rule finds them. `sound` has no fault.
    """

    spec: ClassVar[type]
    contracts: ClassVar[Sequence[type]]
    faults: ClassVar[Mapping[str, Sequence[type]]]
    gross: ClassVar[frozenset[type]] = frozenset()
    sound: ClassVar[type]
    ends: ClassVar[tuple[type[BaseException], ...]] = (AssertionError, pytest.fail.Exception)
    """What a check may end with that has found something."""
    hurried: ClassVar[float] = 0.3
    patient: ClassVar[float] = 3.0
    unhurried: ClassVar[float] = 20.0
    """Seconds after which a check gives up. What a hurried one says wrongly, as the machine is busy, or stands still
    just then, the next one says again."""

    @abstractmethod
    def stage(self, contract: type, made: type, folder: Any, seconds: float) -> AbstractContextManager[Any]:
        """The suite of a contract, and by name what its checks may ask for, around a `made` that is new."""

    def contract_of(self, check: str, made: type) -> type:
        """The contract under which a check is called."""
        del made
        return next(each for each in self.contracts if hasattr(each, check))

    def checks_for(self, fault: type) -> set[str]:
        """Those that must not find a fault of another rule."""
        del fault
        return checks_of(*self.contracts)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each test the checks and the faults that it is about."""
        cases = [(check, fault) for check, faults in self.faults.items() for fault in faults]
        if {"check", "fault"} <= {*metafunc.fixturenames}:
            ids = [f"{fault.__name__}-{named(check)[0]}" for check, fault in cases]
            metafunc.parametrize(("check", "fault"), cases, ids=ids)
        elif "fault" in metafunc.fixturenames:
            metafunc.parametrize("fault", self.precise(), ids=lambda fault: fault.__name__)
        elif {"check", "case"} <= {*metafunc.fixturenames}:
            several = [(check, case) for check in self.faults for case in self.cases_of(check) if case]
            ids = [f"{named(check)[0]}-{','.join(case.values())}" for check, case in several]
            metafunc.parametrize(("check", "case"), several, ids=ids)
        elif "check" in metafunc.fixturenames:
            metafunc.parametrize("check", self.faults)

    def test_every_check_has_a_fault_to_find(self):
        assert set(self.faults) == checks_of(*self.contracts)

    def test_every_rule_of_the_contract_has_a_check_and_each_check_names_a_rule(self):
        rules = rules_of(self.spec)
        assert {named(check)[0] for check in self.faults} == set(rules)
        assert [int(number[1:]) for number in rules] == list(range(1, len(rules) + 1))

    def test_a_fault_is_found(self, check, fault, tmp_path):
        assert any(self.finds(check, fault, tmp_path, seconds) for seconds in self.tries())

    def test_a_fault_is_found_by_the_rule_it_breaks_and_by_no_other(self, fault, tmp_path):
        (meant,) = self.rules_meant_for(fault)
        checks = self.checks_for(fault)
        found: dict[str, list[str]] = {}
        doubtful = set(rules_of(self.spec))
        for seconds in self.tries():
            again = {check for check in checks if named(check)[0] in doubtful}
            sure = {rule: said for rule, said in found.items() if rule not in doubtful}
            found = sure | self.broken_rules(fault, again, tmp_path, seconds)
            if not (doubtful := {meant} ^ set(found)):
                break
        assert not doubtful, f"meant for {meant}, and found: {found}"

    def test_each_case_of_a_check_finds_a_fault_that_no_other_case_finds(self, check, case, tmp_path):
        assert any(
            self.finds_alone(case, fault, check, tmp_path, seconds)
            for seconds in self.tries()
            for fault in self.faults[check]
        )

    def test_every_rule_has_a_fault_that_no_other_rule_finds(self):
        assert set().union(*map(self.rules_meant_for, self.precise())) == set(rules_of(self.spec))

    def test_the_same_call_passes_without_a_fault(self, check, tmp_path):
        *hurried, last = self.tries()
        if all(self.broken_rules(self.sound, {check}, tmp_path, seconds) for seconds in hurried):
            self.call(check, self.sound, tmp_path, last)

    def tries(self) -> tuple[float, ...]:
        """The seconds of each try."""
        return self.hurried, self.patient, self.unhurried

    def finds(self, check: str, made: type, folder: Any, seconds: float) -> bool:
        """Whether a check does not pass, in one of its cases."""
        return any(self.finds_with(case, check, made, folder, seconds) for case in self.cases_of(check))

    def finds_with(self, case: Mapping[str, Any], check: str, made: type, folder: Any, seconds: float) -> bool:
        """Whether a check does not pass in this case."""
        try:
            self.call_with(case, check, made, folder, seconds)
        except self.ends:
            return True
        return False

    def call(self, check: str, made: type, folder: Any, seconds: float) -> None:
        """Call one check as pytest would, once for each of its cases."""
        for case in self.cases_of(check):
            self.call_with(case, check, made, folder, seconds)

    def call_with(self, case: Mapping[str, Any], check: str, made: type, folder: Any, seconds: float) -> None:
        """Call one check once, with what `pytest.mark.parametrize` gives it in one case."""
        contract = self.contract_of(check, made)
        method = getattr(contract, check)
        wanted = list(inspect.signature(method).parameters)[1:]
        with awaited(), self.stage(contract, made, folder, seconds) as (suite, given):
            method(suite, **{name: {**given, **case}[name] for name in wanted})

    def cases_of(self, check: str) -> list[Mapping[str, Any]]:
        """What `pytest.mark.parametrize` gives a check, one after the other; where there is none, nothing, once."""
        method = next(getattr(each, check) for each in self.contracts if hasattr(each, check))
        marks = [mark for mark in getattr(method, "pytestmark", ()) if mark.name == "parametrize"]
        if not marks:
            return [{}]
        ((name, values),) = (mark.args for mark in marks)
        return [{name: value} for value in values]

    def finds_alone(self, case: Mapping[str, Any], fault: type, check: str, folder: Any, seconds: float) -> bool:
        """Whether a fault does not pass this case of a check, and passes the others."""
        others = (other for other in self.cases_of(check) if other != case)
        return self.finds_with(case, check, fault, folder, seconds) and not any(
            self.finds_with(other, check, fault, folder, seconds) for other in others
        )

    def broken_rules(self, fault: type, checks: set[str], folder: Any, seconds: float) -> dict[str, list[str]]:
        """The rules of those of the `checks` that find something, and what each of these found."""
        rules: dict[str, list[str]] = {}
        for check in sorted(checks):
            try:
                self.call(check, fault, folder, seconds)
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever it is, the check did not pass
                rules.setdefault(named(check)[0], []).append(f"{check}: {error!r}")
        return rules

    def rules_meant_for(self, fault: type) -> set[str]:
        """The rules that a fault breaks."""
        return {named(check)[0] for check, faults in self.faults.items() if fault in faults}

    def precise(self) -> list[type]:
        """The faults that are not gross."""
        every = dict.fromkeys(fault for faults in self.faults.values() for fault in faults)
        return [fault for fault in every if fault not in self.gross]


class StillRunning(BaseException):
    """Threads of a check that its stage did not end: a fault of the test, and nothing that a check has found."""


@contextmanager
def awaited(seconds: float = 30) -> Iterator[None]:
    """Wait in the end until no more threads run than in the beginning.

    One of an earlier check that ends while the next one counts its threads hides one that this leaves behind.
    """
    threads = threading.active_count()
    try:
        yield
    finally:
        until = time.monotonic() + seconds
        while threading.active_count() > threads:
            if time.monotonic() > until:
                raise StillRunning(threading.enumerate())
            time.sleep(0.01)


def together(*faults: Mapping[str, Sequence[type]]) -> Mapping[str, Sequence[type]]:
    """The faults of several modules, by the check that must find each."""
    checks = dict.fromkeys(check for each in faults for check in each)
    return {check: [fault for each in faults for fault in each.get(check, ())] for check in checks}


def checks_of(*contracts: type) -> set[str]:
    """The checks of contracts."""
    return {name for contract in contracts for name in dir(contract) if name.startswith("test_")}
