"""A real Envoy takes what files tell it; what it refuses is known at once and by name, and is no end of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backends import istio_envoy as words
from tests.backends.file_envoy import FileEnvoy, Said
from tests.support.ports import free_port
from tests.support.processes import wait_until

Saying = Callable[[str], Said]


@pytest.fixture
def saying() -> Saying:
    """Requests come in and go on to a cluster; there is one, `stock`."""
    port = free_port()

    def said(cluster: str) -> Said:
        way = {"filters": [words.by_request("stock.example", cluster, [])]}
        return Said(
            clusters=(words.cluster("stock", [("127.0.0.1", 1)]),),
            listeners=(words.listener("in", port, [way], by_name=False),),
        )

    return said


@pytest.fixture
def envoy(tmp_path: Path) -> Iterator[FileEnvoy]:
    one = FileEnvoy(tmp_path, "any")
    try:
        one.start()
        yield one
    finally:
        one.close()


def test_a_listener_that_it_refuses_is_an_error_and_the_next_is_taken(envoy: FileEnvoy, saying: Saying) -> None:
    envoy.take(saying("stock"))
    with pytest.raises(AssertionError, match=r"(?s)lds\.update_rejected.*unknown cluster 'nowhere'"):
        envoy.take(saying("nowhere"))
    assert envoy.lacks(saying("nowhere"))
    envoy.take(saying("stock"))
    assert not envoy.lacks(saying("stock"), drained=False)
    envoy.take(Said())
    wait_until(lambda: not envoy.lacks(Said()), what="nothing drains any more")


def test_a_cluster_with_a_field_of_no_meaning_is_an_error(envoy: FileEnvoy) -> None:
    with pytest.raises(AssertionError, match=r"(?s)cds\.update_rejected.*'places'"):
        envoy.take(Said(clusters=({"name": "stock", "places": []},)))


def test_one_that_has_ended_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    envoy = FileEnvoy(tmp_path, "any", [{"name": "always", "places": []}])
    try:
        with pytest.raises(AssertionError, match=r"(?s)Envoy has ended: .*'places'"):
            envoy.start()
    finally:
        envoy.close()
