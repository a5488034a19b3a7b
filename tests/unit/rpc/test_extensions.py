import pytest

from hamlet_core.rpc.extensions import OURS, PLAIN, Extensions, from_metadata


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("snapshot,window=8", Extensions(snapshot=True, window=8)),
        (b"window=8 , snapshot", Extensions(snapshot=True, window=8)),
        ("window=99999", Extensions(window=256)),
        ("window=0", PLAIN),
        ("window=-3", PLAIN),
        ("window=\u0663", PLAIN),
        ("window=" + "9" * 6_000, PLAIN),
        ("window=4,window=7,zip=9,resume", Extensions(window=7)),
        ("", PLAIN),
        (b"\xff\xfe", PLAIN),
    ],
)
def test_what_metadata_names_is_taken_as_far_as_it_is_known(value, wanted):
    assert from_metadata([("other", "snapshot"), ("hamlet-extensions", value)]) == wanted


def test_metadata_says_what_was_agreed():
    assert from_metadata(None) == from_metadata([]) == PLAIN
    assert from_metadata(OURS.metadata()) == OURS
    assert PLAIN.metadata() == ()
    assert OURS.agree(Extensions(window=8)) == Extensions(window=8)
