"""Aliases, and who gets which local name when two claim the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hamlet_core.api import ImportKey
from hamlet_core.imports.names import NameTable, alias, host_name_fault

LABEL = "a" * 63
EAST, WEST = ImportKey("east", "orders"), ImportKey("west", "orders")
FQDN = "orders.shop.example"


@pytest.mark.parametrize(
    ("fqdn", "peer", "expected"),
    [
        ("orders.shop.example", "east", "orders-east.shop.example"),
        ("ORDERS.Shop.example", "east", "orders-east.shop.example"),
        ("orders", "east", "orders-east"),
        ("a" * 58 + ".example", "east", "a" * 58 + "-east.example"),
    ],
)
def test_an_alias_is_the_first_label_and_the_peer(fqdn, peer, expected):
    assert alias(fqdn, peer) == expected


def test_a_label_that_gets_too_long_is_cut_and_stays_distinct():
    first, second = alias("a" * 59 + ".example", "east"), alias("a" * 60 + ".example", "east")
    assert first != second
    assert alias(f"{LABEL}.example", "east") != alias(f"{LABEL}.other", "east").replace("other", "example")
    for name in (first, second):
        assert len(name.split(".")[0]) == 63
        assert name.startswith("a" * 54 + "-")
        assert host_name_fault(name) is None


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(first=LABELS, rest=LABELS, peer=LABELS)
def test_an_alias_of_a_host_name_is_a_host_name(first, rest, peer):
    fqdn = f"{first}.{rest}.example"
    assert host_name_fault(alias(fqdn, peer)) is None
    assert alias(fqdn, peer) != fqdn
    assert alias(fqdn, peer).partition(".")[2] == fqdn.partition(".")[2]


class Table(NameTable):
    """East comes before west, west before any other; what is in `leaving` does not stay."""

    def __init__(self) -> None:
        self.leaving: set[ImportKey] = set()
        super().__init__(lambda key: key not in self.leaving, ["east", "west"].index)


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_name_that_nobody_has_is_given_in_lower_case(table):
    assert table.assign(EAST, "Orders.SHOP.example").local_name == FQDN


def test_the_second_peer_gets_the_alias(table):
    table.assign(EAST, FQDN)
    assert table.assign(WEST, FQDN).local_name == "orders-west.shop.example"


def test_with_none_standing_the_order_of_the_configuration_decides_and_not_who_came_first(table):
    assert table.assign(WEST, FQDN).local_name == FQDN
    given = table.assign(EAST, FQDN)
    assert (given.local_name, given.displaced) == (FQDN, WEST)
    assert table.assign(WEST, FQDN).local_name == "orders-west.shop.example"


def test_the_one_that_stands_under_the_plain_name_keeps_it(table):
    table.occupy(FQDN, WEST)
    assert table.assign(EAST, FQDN).local_name == "orders-east.shop.example"
    assert table.assign(WEST, FQDN).local_name == FQDN


def test_one_that_is_being_written_counts_as_standing(table):
    table.assign(WEST, FQDN)
    table.occupy(FQDN, WEST)
    assert table.assign(EAST, FQDN).local_name == "orders-east.shop.example"


def test_one_that_is_about_to_go_does_not_hold_the_name(table):
    table.occupy(FQDN, WEST)
    table.leaving.add(WEST)
    assert table.assign(EAST, FQDN).local_name == FQDN
    assert table.occupant(FQDN) == WEST


def test_one_that_was_about_to_go_and_comes_back_takes_its_name_back(table):
    table.occupy(FQDN, WEST)
    table.leaving.add(WEST)
    table.assign(EAST, FQDN)
    table.leaving.clear()
    given = table.assign(WEST, FQDN)
    assert (given.local_name, given.displaced) == (FQDN, EAST)


def test_an_alias_that_stands_stays_when_the_holder_of_the_plain_name_goes(table):
    table.assign(EAST, FQDN)
    table.assign(WEST, FQDN)
    table.occupy("orders-west.shop.example", WEST)
    table.release(EAST)
    assert table.assign(WEST, FQDN).local_name == "orders-west.shop.example"


def test_the_second_of_one_peer_is_refused_with_the_first_named(table):
    table.assign(EAST, FQDN)
    given = table.assign(ImportKey("east", "orders2"), FQDN)
    assert given.local_name == ""
    assert given.refusal.startswith(f"the name {FQDN} is already taken by 'orders' of the same peer")


def test_the_second_of_one_peer_is_refused_also_when_the_first_has_the_alias(table):
    table.assign(EAST, FQDN)
    table.assign(WEST, FQDN)
    given = table.assign(ImportKey("west", "orders2"), FQDN)
    assert "already taken by 'orders' of the same peer" in given.refusal


def test_an_alias_that_is_taken_refuses_with_both_holders(table):
    table.assign(EAST, FQDN)
    table.assign(ImportKey("east", "sly"), "orders-west.shop.example")
    given = table.assign(WEST, FQDN)
    assert given.local_name == ""
    assert (
        "is taken by the peer east, and the alias orders-west.shop.example is taken by the peer east" in given.refusal
    )
    assert "narrowing peers.east.accept or peers.west.accept" in given.refusal


def test_an_alias_that_is_a_local_service_refuses(table):
    table.set_local(frozenset({"orders-west.shop.example"}))
    table.assign(EAST, FQDN)
    assert "is the name of a local service" in table.assign(WEST, FQDN).refusal


def test_an_alias_that_gets_too_long_as_a_whole_refuses(table):
    long = ".".join([LABEL[:58], LABEL, LABEL, LABEL])
    assert host_name_fault(long) is None
    table.assign(EAST, long)
    assert "it has 255 characters" in table.assign(WEST, long).refusal


def test_an_import_whose_fqdn_changes_lets_its_old_name_go(table):
    table.assign(EAST, FQDN)
    assert table.assign(EAST, "pay.shop.example").local_name == "pay.shop.example"
    assert table.holder(FQDN) is None


def test_who_waits_for_a_name_is_told_once_when_it_is_free(table):
    table.assign(EAST, FQDN)
    second = ImportKey("east", "orders2")
    table.wait(second, FQDN)
    assert table.freed() == ()
    table.release(EAST)
    assert table.freed() == (second,)
    assert table.freed() == ()


def test_who_waits_is_not_told_while_an_entry_stays_under_the_name(table):
    table.assign(EAST, FQDN)
    table.occupy(FQDN, EAST)
    table.wait(WEST, FQDN)
    table.release(EAST)
    assert table.freed() == ()
    table.vacate(EAST)
    assert table.freed() == (WEST,)


def test_who_waits_is_told_as_soon_as_the_entry_under_the_name_is_about_to_go(table):
    table.occupy(FQDN, EAST)
    table.wait(WEST, FQDN)
    table.leaving.add(EAST)
    table.leave(EAST)
    assert table.freed() == (WEST,)


def test_who_waits_for_the_name_of_a_local_service_is_told_when_that_goes(table):
    table.set_local(frozenset({FQDN}))
    table.wait(EAST, FQDN)
    table.set_local(frozenset())
    assert table.freed() == (EAST,)


def test_who_no_longer_waits_is_not_told(table):
    table.assign(EAST, FQDN)
    table.wait(WEST, FQDN, "orders-west.shop.example")
    table.release(WEST)
    table.release(EAST)
    assert table.freed() == ()


def test_a_name_that_becomes_local_names_the_imports_that_have_it(table):
    table.assign(EAST, FQDN)
    table.occupy("pay.shop.example", WEST)
    assert table.set_local(frozenset({FQDN, "pay.shop.example", "other"})) == (EAST, WEST)
    assert table.set_local(frozenset({FQDN, "pay.shop.example"})) == ()
