import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hamlet_core.identity import authority
from hamlet_core.identity.credentials import Credentials
from hamlet_core.identity.spiffe import Expected, IdentityError, TrustBundle, verify_peer


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pki"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_an_issued_certificate_proves_its_spiffe_id_against_the_bundle(folder):
    made = authority.init(folder, "west.example")
    issued = authority.issue(folder)
    own = Credentials.from_pem(issued.certificate.read_bytes(), issued.key.read_bytes())
    bundle = TrustBundle.from_pem(made.bundle.read_bytes(), source="bundle.pem")
    expected = Expected(trust_domain="west.example")
    assert verify_peer(own.chain, bundle, expected, datetime.now(UTC)) == "spiffe://west.example/hamlet/agent"
    san = own.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["agent.west.example"]
    purposes = own.leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_a_name_dns_names_a_folder_and_a_lifetime_can_be_chosen(folder, tmp_path):
    authority.init(folder, "west.example")
    issued = authority.issue(
        folder, name="edge", dns_names=["gw.west.example", "gw2.west.example"], hours=2, out=tmp_path / "out"
    )
    assert str(issued.spiffe_id) == "spiffe://west.example/hamlet/edge"
    assert issued.certificate == tmp_path / "out" / "edge.crt"
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["gw.west.example", "gw2.west.example"]
    remaining = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(hours=1) < remaining <= timedelta(hours=2)


def test_a_certificate_does_not_outlive_its_authority(folder):
    made = authority.init(folder, "west.example", days=0.5)
    assert authority.issue(folder, hours=48).not_after == made.not_after


def test_an_expired_authority_issues_nothing(folder, monkeypatch):
    authority.init(folder, "west.example", days=1)

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr(authority, "datetime", Later)
    with pytest.raises(IdentityError, match="expired"):
        authority.issue(folder)


def test_keys_are_never_readable_by_others_whatever_the_umask(folder, monkeypatch):
    modes = []
    really_open = os.open

    def watched(path, flags, given=0o777, **more):
        descriptor = really_open(path, flags, given, **more)
        if ".key" in str(path):
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        made = authority.init(folder, "west.example")
        issued = authority.issue(folder)
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600], "as they were created"
    assert mode(made.key) == mode(issued.key) == 0o600
    assert mode(folder) == 0o700
    assert mode(made.bundle) == 0o644


def test_an_authority_is_never_overwritten(folder):
    made = authority.init(folder, "west.example")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(IdentityError, match="not overwritten"):
        authority.init(folder, "east.example")
    for kept in (made.certificate, made.bundle):
        made.key.unlink(missing_ok=True)
        with pytest.raises(IdentityError, match=f"{kept.name} exists"):
            authority.init(folder, "east.example")
        kept.unlink()
    assert before[made.key] not in {path.read_bytes() for path in folder.iterdir()}


def test_a_race_for_the_folder_is_won_by_one(folder, monkeypatch):
    """The second writer finds the file only when it writes: nothing is replaced then either."""
    authority.init(folder, "west.example")
    key = (folder / "ca.key").read_bytes()
    with pytest.raises(IdentityError, match=r"ca\.key cannot be written"):
        authority._write(folder / "ca.key", b"other", 0o600, replace=False)
    assert (folder / "ca.key").read_bytes() == key
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "no half-written file is left"


def test_issuing_again_replaces_the_pair_in_place(folder):
    authority.init(folder, "west.example")
    first = authority.issue(folder).certificate.read_bytes()
    again = authority.issue(folder)
    assert again.certificate.read_bytes() != first
    Credentials.from_pem(again.certificate.read_bytes(), again.key.read_bytes())


@pytest.mark.parametrize("name", ["ca", "", "../agent", "Agent", "a b", "agent.crt", "a" * 64])
def test_a_name_that_is_no_label_or_the_authority_s_own_is_refused(folder, name):
    authority.init(folder, "west.example")
    before = sorted(folder.iterdir())
    with pytest.raises(IdentityError, match="name"):
        authority.issue(folder, name=name)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "trust_domain", ["", "West.example", "west_example", "spiffe://west.example", "west.example."]
)
def test_a_trust_domain_that_is_no_dns_name_is_refused(folder, trust_domain):
    with pytest.raises(IdentityError, match="trust domain"):
        authority.init(folder, trust_domain)
    assert not folder.exists()


@pytest.mark.parametrize("dns", ["", "*.*.west.example", "GW.west.example", "10.0.0.1:80"])
def test_a_dns_name_that_is_none_is_refused(folder, dns):
    authority.init(folder, "west.example")
    with pytest.raises(IdentityError, match="DNS name"):
        authority.issue(folder, dns_names=[dns])


@pytest.mark.parametrize("lifetime", [0, -1])
def test_a_lifetime_is_positive(folder, lifetime):
    with pytest.raises(IdentityError, match="days"):
        authority.init(folder, "west.example", days=lifetime)
    authority.init(folder, "west.example")
    with pytest.raises(IdentityError, match="hours"):
        authority.issue(folder, hours=lifetime)


def test_without_an_authority_the_error_says_how_to_make_one(folder, tmp_path):
    with pytest.raises(IdentityError, match="no authority") as refused:
        authority.issue(folder)
    assert "hamlet pki init" in refused.value.mend
    authority.init(folder, "west.example")
    authority.init(tmp_path / "other", "west.example")
    (folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(IdentityError, match="not the key"):
        authority.issue(folder)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="cannot be made"):
        authority.init(tmp_path / "file" / "pki", "west.example")
