import pytest

from hamlet_core.api.testing.minting import Mint
from hamlet_core.identity.spiffe import IdentityError, TrustBundle

WEST = Mint("west")


def test_a_bundle_keeps_every_authority_and_drops_the_text_between():
    other = Mint("west, next year")
    bundle = TrustBundle.from_pem(b"# from west\n" + WEST.pem + b"# and\n" + other.pem, source="west.pem")
    assert bundle.certificates == (WEST.certificate, other.certificate)
    assert bundle.pem == WEST.pem + other.pem


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "no certificate"),
        (b"garbage", "no certificate"),
        (WEST.certificate.tbs_certificate_bytes, "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (WEST.pem[:-40], "cannot be read"),
        (WEST.leaf("spiffe://west.example/a").pem, r"certificate 1 .* not a CA"),
        (WEST.pem + Mint("fake", ca=False).pem, r"certificate 2 .*fake.* not a CA"),
        (WEST.pem + WEST.leaf("spiffe://west.example/a").key_pem, "private key"),
    ],
    ids=["empty", "garbage", "DER", "no content", "cut short", "a leaf", "one is no authority", "a key is in it"],
)
def test_what_is_no_bundle_is_refused_and_the_mend_names_its_file(pem, message):
    with pytest.raises(IdentityError, match=message) as refused:
        TrustBundle.from_pem(pem, source="west.pem")
    assert "west.pem" in refused.value.mend
