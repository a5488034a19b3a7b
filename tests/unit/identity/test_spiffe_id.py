import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hamlet_core.identity.spiffe import IdentityError, SpiffeId

_SEGMENT = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=20).filter(
    lambda text: text not in {".", ".."}
)
_DOMAIN = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=40)


@given(_DOMAIN, st.lists(_SEGMENT, max_size=5))
def test_what_the_standard_allows_reads_back_as_it_was_written(domain, segments):
    path = "".join(f"/{segment}" for segment in segments)
    text = f"spiffe://{domain}{path}"
    identity = SpiffeId.parse(text)
    assert (identity.trust_domain, identity.path) == (domain, path)
    assert str(identity) == text


@given(st.text(max_size=60))
def test_no_text_is_read_as_an_id_that_it_does_not_spell(text):
    try:
        identity = SpiffeId.parse("spiffe://" + text)
    except IdentityError:
        return
    assert str(identity) == "spiffe://" + text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:/west.example/a",
        "SPIFFE://west.example/a",
        "https://west.example/a",
        "spiffe://",
        "spiffe:///a",
        "spiffe://West.example/a",
        "spiffe://west.example:8008/a",
        "spiffe://user@west.example/a",
        "spiffe://west.exam%70le/a",
        "spiffe://west.example/a%2fb",
        "spiffe://west.example/",
        "spiffe://west.example/a/",
        "spiffe://west.example//a",
        "spiffe://west.example/./a",
        "spiffe://west.example/../a",
        "spiffe://west.example/a?b",
        "spiffe://west.example/a#b",
        "spiffe://west.example?b",
        "spiffe://west.example/a\n",
        "spiffe://west.example\n",
        "spiffe://wëst.example/a",
        "spiffe://west.example/ä",
        "spiffe://" + "a" * 256 + "/a",
        "spiffe://west.example/" + "a" * 2048,
    ],
)
def test_what_the_standard_forbids_is_refused(text):
    with pytest.raises(IdentityError, match="is no SPIFFE ID"):
        SpiffeId.parse(text)


def test_the_longest_id_is_2048_bytes():
    start = "spiffe://west.example/"
    assert SpiffeId.parse(start + "a" * (2048 - len(start))).path
    with pytest.raises(IdentityError, match="2048"):
        SpiffeId.parse(start + "a" * (2049 - len(start)))
