"""The port of a registry: calls, their deadlines, and what of an adapter's answers is believed."""

import asyncio
import traceback
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import pytest
import structlog

from hamlet_core.api import (
    AdapterError,
    ConfigError,
    Finding,
    HamletError,
    InvalidService,
    Outcome,
    RegistryUnavailable,
    RemoveImport,
    Severity,
    Status,
    WriteImport,
    hookimpl,
)
from hamlet_core.api.testing import imported_service
from hamlet_core.plugins import RegistryPort
from hamlet_core.plugins.attribution import FAULT

STOCK, MAIL = imported_service("stock"), imported_service("mail")


async def eventually(condition, seconds=20.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on other threads
            await asyncio.sleep(0.01)


class TestCalls:
    async def test_what_is_applied_is_listed_and_can_be_removed(self, memory, make_port):
        port = make_port()
        await port.apply([WriteImport(STOCK), WriteImport(MAIL)])
        await port.mark_peer("east", datetime(2024, 5, 17, tzinfo=UTC))
        assert {each.key: each.digest for each in await port.imports()} == {
            STOCK.key: STOCK.digest,
            MAIL.key: MAIL.digest,
        }
        (outcome,) = await port.apply([RemoveImport(MAIL.key, MAIL.local_name)])
        assert outcome == Outcome(key=MAIL.key, status=Status.APPLIED)
        assert set(memory.imported()) == {STOCK.key}

    async def test_nothing_to_apply_asks_nobody(self, make_port):
        def registry_apply(changes):
            raise AssertionError

        assert await make_port(registry_apply=registry_apply).apply([]) == []

    @pytest.mark.parametrize(
        ("outcomes", "sentence"),
        [
            ([], "answered 2 changes with 0 outcomes"),
            ([Outcome(key=STOCK.key, status=Status.APPLIED)], "answered 2 changes with 1 outcomes"),
            (
                [Outcome(key=key, status=Status.APPLIED) for key in (MAIL.key, STOCK.key)],
                "not theirs, one by one and in their order",
            ),
            (["done", "done"], "is no list of Outcome"),
            (7, "registry_apply returned 7"),
        ],
    )
    async def test_outcomes_that_are_not_those_of_the_changes_are_refused(self, make_port, outcomes, sentence):
        def registry_apply(changes):
            return outcomes

        with pytest.raises(AdapterError, match=r"registry 'west' \(memory\): registry_apply") as raised:
            await make_port(registry_apply=registry_apply).apply([WriteImport(STOCK), WriteImport(MAIL)])
        assert sentence in str(raised.value)

    async def test_a_list_of_something_else_is_refused(self, make_port):
        def registry_imports():
            return ["stock"]

        with pytest.raises(AdapterError, match="no list of StandingImport"):
            await make_port(registry_imports=registry_imports).imports()

    async def test_a_call_past_its_deadline_is_to_be_tried_again_and_the_next_one_waits_for_it(
        self, memory, make_port
    ):
        running, most = [], []

        def registry_apply(changes):
            running.append(1)
            most.append(len(running))
            memory.reach()
            running.pop()
            return [Outcome(key=change.key, status=Status.APPLIED) for change in changes]

        port = make_port(registry_apply=registry_apply, call_timeout=0.3)
        with memory.held():
            late = await port.apply([WriteImport(STOCK), WriteImport(MAIL)])
            behind = await port.apply([WriteImport(STOCK)])
            with pytest.raises(RegistryUnavailable, match="a call before this one has not returned"):
                await port.imports()
        assert [(outcome.key, outcome.status) for outcome in late] == [
            (STOCK.key, Status.RETRY),
            (MAIL.key, Status.RETRY),
        ]
        assert "no answer to registry_apply within 0.3 s" in late[0].reason
        assert [outcome.status for outcome in behind] == [Status.RETRY]
        assert len(most) <= 1, "the call behind a late one was made all the same"
        async with asyncio.timeout(20):  # until the late one has returned, on its thread
            while (await port.apply([WriteImport(STOCK)]))[0].status is not Status.APPLIED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert max(most) == 1

    async def test_a_late_failure_is_logged(self, memory, make_port):
        def registry_apply(changes):
            memory.reach()
            raise ValueError("too late")

        port = make_port(registry_apply=registry_apply, call_timeout=0.1)
        with structlog.testing.capture_logs() as logs:
            with memory.held():
                await port.apply([WriteImport(STOCK)])
            await eventually(lambda: logs)
        assert (logs[0]["event"], logs[0]["adapter"], logs[0]["hook"]) == (
            "adapter failed",
            "registry 'west' (memory)",
            "registry_apply",
        )

    @pytest.mark.parametrize(
        ("raised", "family"),
        [
            (RegistryUnavailable("down", mend="wait"), RegistryUnavailable),
            (type("LeaderLost", (RegistryUnavailable,), {})("down"), RegistryUnavailable),
            (ConfigError("wrong", mend="right"), ConfigError),
            (InvalidService("bad"), InvalidService),
            (AdapterError("unfit"), AdapterError),
            (HamletError("something"), AdapterError),
            (KeyError("x"), AdapterError),
            (StopIteration(), AdapterError),
            (SystemExit(3), AdapterError),
        ],
        ids=lambda value: getattr(value, "__name__", type(value).__name__),
    )
    async def test_errors_keep_their_family_get_their_owner_once_and_keep_their_cause(
        self, make_port, raised, family
    ):
        def registry_imports():
            raise raised

        with pytest.raises(HamletError) as found:
            await make_port(registry_imports=registry_imports).imports()
        assert type(found.value) is family
        assert str(found.value).startswith("registry 'west' (memory): ")
        assert str(found.value).count("registry 'west'") == 1
        assert found.value.__cause__ is raised
        assert found.value.mend == getattr(raised, "mend", "a fault of the adapter: report it with the log")

    async def test_what_only_a_newer_core_has_is_no_fault_that_is_reported(self, make_port):
        def registry_check():
            return [Finding(subject="it", severity=Severity.OK, message="well", code=7)]

        (finding,) = await make_port(registry_check=registry_check).check()
        assert "unexpected keyword argument 'code'; it may be made for a newer hamlet-core than" in finding.message
        assert finding.mend.startswith("pip install --upgrade hamlet-core, or install the version of its")

    async def test_a_closed_port_says_so_and_closes_the_adapter_once(self, memory, make_port):
        closed = []

        def registry_close():
            closed.append(1)

        port = make_port(registry_close=registry_close)
        await port.close()
        await port.close()
        assert closed == [1]
        with pytest.raises(AdapterError, match="is closed"):
            await port.imports()

    async def test_an_adapter_that_fails_to_close_is_logged(self, make_port):
        def registry_close():
            raise ValueError("stuck")

        with structlog.testing.capture_logs() as logs:
            await make_port(registry_close=registry_close).close()
        assert [(entry["event"], entry["hook"]) for entry in logs] == [("adapter failed", "registry_close")]


class TestCheck:
    async def test_findings_are_passed_on(self, make_port):
        assert [finding.severity for finding in await make_port().check()] == [Severity.OK]

    async def test_a_check_that_fails_is_a_finding(self, make_port):
        def registry_check():
            raise RegistryUnavailable("down", mend="start it")

        assert await make_port(registry_check=registry_check).check() == [
            Finding(
                subject="registry 'west' (memory)",
                severity=Severity.ERROR,
                message="registry 'west' (memory): down",
                mend="start it",
            )
        ]

    async def test_a_check_that_hangs_is_a_finding_and_one_beside_a_hanging_write_is_not(self, memory, make_port):
        def registry_check():
            memory.reach()

        hanging = make_port(registry_check=registry_check, call_timeout=0.1)
        port = make_port()
        with memory.held():
            writing = asyncio.create_task(port.apply([WriteImport(STOCK)]))
            assert [finding.severity for finding in await port.check()] == [Severity.OK]
            (finding,) = await hanging.check()
        assert "no answer to registry_check within 0.1 s" in finding.message
        assert [outcome.status for outcome in await writing] == [Status.APPLIED]

    @pytest.mark.parametrize("answer", [7, ["well"]])
    async def test_an_answer_that_is_no_list_of_findings_is_one(self, make_port, answer):
        def registry_check():
            return answer

        (finding,) = await make_port(registry_check=registry_check).check()
        assert finding.severity is Severity.ERROR
        assert finding.mend == FAULT


async def _watch(port):
    async with aclosing(port.watch()) as batches:
        await anext(batches)


class TestFaults:
    """The traceback of what an adapter should never raise is in the log, once."""

    @pytest.mark.parametrize(
        ("hook", "call"),
        [
            ("registry_watch", _watch),
            ("registry_imports", lambda port: port.imports()),
            ("registry_apply", lambda port: port.apply([WriteImport(STOCK)])),
            ("registry_mark_peer", lambda port: port.mark_peer("east", None)),
            ("registry_check", lambda port: port.check()),
        ],
    )
    async def test_a_fault_is_logged_once_with_its_traceback_whichever_hook_has_it(self, make_port, hook, call):
        def fails(**_):
            raise KeyError("orders")

        port = make_port(**{hook: fails})
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                with suppress(AdapterError):
                    await call(port)
        (entry,) = logs
        assert (entry["log_level"], entry["event"], entry["hook"]) == ("error", "adapter failed", hook)
        assert entry["error"] == "KeyError: 'orders'"
        assert traceback.extract_tb(entry["exc_info"].__traceback__)[-1].name == "fails"

    async def test_another_fault_of_the_same_hook_is_logged_too(self, make_port):
        errors = [KeyError("orders"), ValueError("orders"), KeyError("mail")]

        def registry_imports():
            raise errors.pop()

        port = make_port(registry_imports=registry_imports)
        with structlog.testing.capture_logs() as logs:
            while errors:
                with pytest.raises(AdapterError):
                    await port.imports()
        assert [entry["error"] for entry in logs] == ["KeyError: 'mail'", "ValueError: orders"]

    async def test_an_error_that_the_contract_knows_is_no_fault(self, make_port):
        def registry_imports():
            raise RegistryUnavailable("down")

        with structlog.testing.capture_logs() as logs, pytest.raises(RegistryUnavailable):
            await make_port(registry_imports=registry_imports).imports()
        assert logs == []


class TestRegistration:
    async def test_a_wrapper_stands_around_the_adapter(self, memory, make_port):
        class DryRun:
            @hookimpl(wrapper=True)
            def registry_apply(self, changes):
                outcomes = yield
                return [Outcome(key=each.key, status=Status.RETRY, reason="dry run") for each in outcomes]

        (outcome,) = await make_port({"dry": DryRun()}).apply([WriteImport(STOCK)])
        assert outcome.reason == "dry run"
        assert set(memory.imported()) == {STOCK.key}

    async def test_a_wrapper_that_would_answer_in_place_of_the_adapter_is_refused(self, make_port):
        class Greedy:
            @hookimpl
            def registry_imports(self):
                return []

        with pytest.raises(AdapterError, match="wrapper of plugin 'greedy' answers registry_imports itself"):
            make_port({"greedy": Greedy()})

    async def test_an_adapter_that_lacks_hooks_is_refused_with_their_names(self, memory):
        class Half:
            @hookimpl
            def registry_watch(self, stop):
                return iter(())

            @hookimpl
            def registry_check(self):
                return []

        with pytest.raises(AdapterError, match="registry_apply, registry_imports, registry_mark_peer"):
            RegistryPort("west", memory.adapter_type(), Half())

    async def test_a_misspelt_hook_of_an_adapter_is_refused(self, make_port):
        def registry_aply(changes):
            return []

        with pytest.raises(AdapterError, match=r"registry_aply \(.*\) is no hook, registry_apply is"):
            make_port(registry_aply=registry_aply)
