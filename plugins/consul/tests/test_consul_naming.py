"""Names, meta and their limits: the documented rules, as tables and properties."""

from __future__ import annotations

import re

import pytest
from hamlet_consul.naming import hashed_name, join_value, label_meta, service_name, split_values
from hypothesis import given
from hypothesis import strategies as st

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
FQDN = st.lists(LABEL, min_size=1, max_size=8).map(".".join)
ONE_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@pytest.mark.parametrize(
    ("local_name", "name"),
    [
        ("orders.west.example", "orders-west-example"),
        ("my-shop.west.example", "my-shop-west-example"),
        ("Orders.West.Example", "orders-west-example"),
        ("a_b.example", "a-b-example"),
    ],
)
def test_a_name_becomes_one_label(local_name: str, name: str) -> None:
    assert service_name(local_name) == name


def test_no_import_is_called_consul() -> None:
    assert service_name("consul") == hashed_name("consul") != "consul"


def test_a_long_name_is_cut_and_told_apart_by_a_hash() -> None:
    first, second = (service_name(f"{'a' * 60}.{'b' * 20}.{last}") for last in ("x", "y"))
    assert len(first) == len(second) == 63
    assert first != second
    assert first.startswith("a" * 54 + "-")


@given(FQDN)
def test_every_name_is_one_that_consuls_dns_answers_for(local_name: str) -> None:
    assert ONE_LABEL.fullmatch(service_name(local_name))
    assert ONE_LABEL.fullmatch(hashed_name(local_name))


@given(FQDN, FQDN)
def test_hashed_names_tell_different_imports_apart(one: str, other: str) -> None:
    assert (hashed_name(one) == hashed_name(other)) == (one == other)


@given(st.dictionaries(st.sampled_from(["sans", "description"]), st.text(max_size=2000)))
def test_long_values_are_split_within_consuls_limit_and_come_back(meta: dict[str, str]) -> None:
    split = split_values(meta)
    assert all(len(part.encode()) <= 512 for part in split.values())
    assert {key: join_value(split, key) for key in meta} == meta


@given(st.dictionaries(st.text(max_size=200), st.text(max_size=600)), st.integers(0, 64))
def test_labels_keep_to_the_room_and_to_what_consul_takes(labels: dict[str, str], room: int) -> None:
    meta = label_meta(labels, room)
    assert len(meta) <= room
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,128}", key) for key in meta)
    assert all(len(value.encode()) <= 512 for value in meta.values())


def test_labels_that_read_the_same_do_not_replace_each_other() -> None:
    assert label_meta({"a.b": "first", "a/b": "second"}, 9) == {"label-a-b": "first"}
