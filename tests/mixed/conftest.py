"""The mixed federation for the tests of this folder, or, in so many words, why it was not run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.backends.install import CannotInstall
from tests.backends.not_run import leave_out
from tests.mixed.federation import ENTRIES, PATIENCE, East, West, mixed_federation
from tests.support.netns import hindrance, user_namespaces
from tests.support.processes import wait_until

HINDRANCE = hindrance()
BY_A_USER_NAMESPACE = bool(HINDRANCE) and user_namespaces()
"""Whether this process may make no network namespaces, but one that it starts in a user namespace may."""
collect_ignore = (
    ["test_mixed_bench.py", "test_mixed_federation.py", "test_netns.py"]
    if BY_A_USER_NAMESPACE
    else ["test_in_a_user_namespace.py"]
)


@pytest.fixture(scope="session")
def isolated() -> None:
    """Network namespaces can be had; without them the tests are not run, and the summary says so."""
    if HINDRANCE:
        leave_out(f"network namespaces are needed and cannot be had: {HINDRANCE}, or user namespaces")


@pytest.fixture(scope="module")
def linked(isolated: None) -> Iterator[tuple[West, East]]:
    """West with Consul and east with Kubernetes, linked; the one federation of a module."""
    with ExitStack() as stack:
        try:
            pair = stack.enter_context(mixed_federation())
        except CannotInstall as error:
            leave_out(f"a real Consul and a real Kubernetes API are needed and cannot be had: {error}")
        yield pair


@pytest.fixture
def federation(linked: tuple[West, East]) -> Iterator[tuple[West, East]]:
    """West and east without anything of another test in them."""
    west, east = linked
    yield west, east
    for name in tuple(west.registered):
        west.deregister(name)
    for name in tuple(east.exposed):
        east.withdraw(name)
    wait_until(lambda: not east.objects(ENTRIES), what="east holds nothing of the test any more", within=PATIENCE)
    wait_until(lambda: set(west.catalog()) == {"consul"}, what="nor does west", within=PATIENCE)
