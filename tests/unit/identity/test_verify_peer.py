"""Which chains prove which identity. East is the peer; west and mallory are others with authorities of their own."""

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hamlet_core.api.testing.minting import HOUR, NOW, Mint, rsa_key, usage
from hamlet_core.config.model import Peer
from hamlet_core.identity.spiffe import (
    Expected,
    IdentityError,
    SpiffeId,
    TrustBundle,
    fingerprint,
    judged_at,
    verify_peer,
)

ID = "spiffe://east.example/hamlet/agent"
EAST = Expected(trust_domain="east.example")
AUTHORITY = Mint("east")
BASIC = x509.BasicConstraints(ca=True, path_length=None)


def bundle(*authorities):
    return TrustBundle(tuple(a.certificate for a in authorities or (AUTHORITY,)), "east.pem")


def uris(*names):
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])


def purposes(*which):
    return (x509.ExtendedKeyUsage(which), False)


ACCEPTED = {
    "URI-only, empty subject, critical SAN (SPIRE)": (AUTHORITY, {}),
    "with a DNS SAN and a subject": (AUTHORITY, {"dns": ["east.example"], "common_name": "agent"}),
    "no key identifiers anywhere": (Mint("east", key_identifiers=False), {}),
    "an RSA authority": (Mint("east", key=rsa_key()), {}),
    "an RSA leaf": (AUTHORITY, {"key": rsa_key()}),
    "an authority with a SPIFFE ID (Istio, Consul)": (
        Mint("east", extensions=[(uris("spiffe://east.example"), True)]),
        {},
    ),
    "an authority with key usage": (Mint("east", extensions=[(usage("key_cert_sign", "crl_sign"), True)]), {}),
    "a leaf with the usual usages": (
        AUTHORITY,
        {
            "extensions": [
                (usage("digital_signature", "key_encipherment"), True),
                purposes(ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
                (x509.BasicConstraints(ca=False, path_length=None), True),
            ]
        },
    ),
    "an intermediate": (Mint("east intermediate", under=AUTHORITY), {}),
    "two intermediates": (Mint("issuing", under=Mint("policy", under=AUTHORITY)), {}),
    "a DNS name constraint that says nothing about URIs": (
        Mint("east", extensions=[(x509.NameConstraints([x509.DNSName("east.example")], None), True)]),
        {},
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_spiffe_issuers_really_issue_is_accepted(case):
    authority, shape = ACCEPTED[case]
    root = authority
    while root.under:
        root = root.under
    assert verify_peer(authority.leaf(ID, **shape).chain, bundle(root), EAST, NOW) == ID


REFUSED = {
    "another authority": (Mint("mallory"), {}, "does not verify"),
    "another authority of the same name": (Mint("east"), {}, "does not verify"),
    "another authority of the same name, without key identifiers": (
        Mint("east", key_identifiers=False),
        {},
        "does not verify",
    ),
    "expired": (AUTHORITY, {"start": NOW - 2 * HOUR, "end": NOW - HOUR}, "not valid"),
    "not yet valid": (AUTHORITY, {"start": NOW + HOUR, "end": NOW + 2 * HOUR}, "not valid"),
    "a CA as leaf": (AUTHORITY, {"extensions": [(BASIC, True)]}, "leaf is a CA"),
    "a leaf that may sign": (
        AUTHORITY,
        {"extensions": [(usage("digital_signature", "key_cert_sign"), True)]},
        "key usage is an authority's",
    ),
    "a leaf for mail only": (
        AUTHORITY,
        {"extensions": [purposes(ExtendedKeyUsageOID.EMAIL_PROTECTION)]},
        "neither TLS client nor TLS server",
    ),
    "an unknown critical extension": (
        AUTHORITY,
        {"extensions": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]},
        "critical",
    ),
    "a DNS SAN outside the authority's name constraint": (
        Mint("east", extensions=[(x509.NameConstraints([x509.DNSName("east.example")], None), True)]),
        {"dns": ["west.example"]},
        "does not verify",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_chain_that_does_not_hold_is_refused(case):
    authority, shape, message = REFUSED[case]
    roots = bundle() if case.startswith("another") else bundle(authority)
    leaf = authority.leaf(ID, **shape)
    with pytest.raises(IdentityError, match=message) as refused:
        verify_peer(leaf.chain, roots, EAST, NOW)
    assert ID in str(refused.value)
    assert "east.pem" not in str(refused.value), "a path of ours is not told to the other side"
    assert "east.pem" in refused.value.mend


@pytest.mark.parametrize(
    ("authority", "message"),
    [
        (Mint("east", start=NOW - 3 * HOUR, end=NOW - 2 * HOUR), "not valid"),
        (Mint("east", ca=False), "CA"),
        (Mint("east", ca=None), "basicConstraints"),
        (Mint("east", extensions=[(usage("crl_sign"), True)]), "keyCertSign"),
    ],
)
def test_an_authority_that_may_not_sign_vouches_for_nobody(authority, message):
    with pytest.raises(IdentityError, match=message):
        verify_peer(authority.leaf(ID).chain, bundle(authority), EAST, NOW)


def test_an_intermediate_counts_only_when_it_is_presented_and_may_sign():
    good, fake = Mint("issuing", under=AUTHORITY), Mint("issuing", under=AUTHORITY, ca=None)
    with pytest.raises(IdentityError, match="does not verify"):
        verify_peer(good.leaf(ID).chain[:1], bundle(), EAST, NOW)
    with pytest.raises(IdentityError, match="basicConstraints"):
        verify_peer(fake.leaf(ID).chain, bundle(), EAST, NOW)


def test_a_leaf_of_the_authority_cannot_sign_for_others():
    agent = AUTHORITY.leaf("spiffe://east.example/app", common_name="app")
    forger = Mint("app", key=agent.key)
    forged = forger.leaf(ID)
    with pytest.raises(IdentityError, match="does not verify"):
        verify_peer((forged.certificate, agent.certificate), bundle(), EAST, NOW)


def test_the_path_length_of_an_authority_holds():
    short = Mint("east", path_length=0)
    with pytest.raises(IdentityError, match="path length"):
        verify_peer(Mint("issuing", under=short).leaf(ID).chain, bundle(short), EAST, NOW)


def test_a_bundle_may_hold_an_intermediate_as_its_authority():
    issuing = Mint("issuing", under=AUTHORITY)
    assert verify_peer(issuing.leaf(ID).chain[:1], bundle(issuing), EAST, NOW) == ID


def test_a_uri_name_constraint_refuses_because_it_cannot_be_checked():
    only_west = x509.NameConstraints([x509.UniformResourceIdentifier("west.example")], None)
    authority = Mint("east", extensions=[(only_west, True)])
    with pytest.raises(IdentityError, match="name constraint"):
        verify_peer(authority.leaf(ID).chain, bundle(authority), EAST, NOW)


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (["spiffe://west.example/hamlet/agent"], {}),
        ([ID, "spiffe://east.example/other"], {}),
        ([ID, ID], {}),
        ([ID, "https://east.example/"], {}),
        ([], {"dns": ["east.example"]}),
        ([], {"common_name": ID}),
        (["spiffe://east.example"], {}),
        (["spiffe://EAST.example/a"], {}),
        (["spiffe://east.example.mallory.example/a"], {}),
        (["https://east.example/hamlet/agent"], {}),
    ],
)
def test_a_spiffe_peer_has_exactly_one_uri_and_it_is_of_its_trust_domain(names, shape):
    with pytest.raises(
        IdentityError, match=r"presented is .*expected is one SPIFFE ID of trust domain east\.example"
    ):
        verify_peer(AUTHORITY.leaf(*names, **shape).chain, bundle(), EAST, NOW)


def test_an_exact_spiffe_id_narrows_the_trust_domain():
    expected = Expected(trust_domain="east.example", spiffe_id=SpiffeId.parse(ID))
    assert verify_peer(AUTHORITY.leaf(ID).chain, bundle(), expected, NOW) == ID
    with pytest.raises(IdentityError, match="expected is the SPIFFE ID"):
        verify_peer(AUTHORITY.leaf(ID + "2").chain, bundle(), expected, NOW)


@pytest.mark.parametrize(
    ("dns", "accepted"),
    [
        (["gw.east.example"], True),
        (["other.example", "GW.East.Example"], True),
        (["*.east.example"], False),
        (["agent.gw.east.example"], False),
        ([], False),
    ],
)
def test_a_dns_name_is_pinned_exactly(dns, accepted):
    expected = Expected(dns_name="gw.east.example")
    leaf = AUTHORITY.leaf(dns=dns, common_name="gw.east.example")
    if accepted:
        assert verify_peer(leaf.chain, bundle(), expected, NOW) == "dns:gw.east.example"
        with pytest.raises(IdentityError, match="does not verify"):
            verify_peer(leaf.chain, bundle(Mint("mallory")), expected, NOW)
    else:
        with pytest.raises(IdentityError, match=r"expected is the DNS name gw\.east\.example"):
            verify_peer(leaf.chain, bundle(), expected, NOW)


def test_a_fingerprint_pins_one_certificate_and_still_needs_the_bundle():
    pinned, other = AUTHORITY.leaf(common_name="a"), AUTHORITY.leaf(common_name="a")
    expected = Expected(fingerprint=fingerprint(pinned.certificate))
    assert verify_peer(pinned.chain, bundle(), expected, NOW) == f"sha256:{expected.fingerprint}"
    with pytest.raises(IdentityError, match="expected is the certificate"):
        verify_peer(other.chain, bundle(), expected, NOW)
    with pytest.raises(IdentityError, match="does not verify"):
        verify_peer(pinned.chain, bundle(Mint("mallory")), expected, NOW)


def test_a_pinned_certificate_may_be_its_own_authority():
    own = Mint("self-signed")
    expected = Expected(fingerprint=fingerprint(own.certificate))
    assert verify_peer((own.certificate,), bundle(own), expected, NOW).startswith("sha256:")


def test_nothing_presented_is_refused():
    with pytest.raises(IdentityError, match="no certificate"):
        verify_peer((), bundle(), EAST, NOW)


def test_a_standing_connection_outlives_its_leaf_but_not_its_authority():
    leaf = AUTHORITY.leaf(ID)
    later = NOW + 5 * HOUR
    with pytest.raises(IdentityError, match="not valid"):
        verify_peer(leaf.chain, bundle(), EAST, later)
    assert verify_peer(leaf.chain, bundle(), EAST, judged_at(leaf.certificate, later)) == ID
    with pytest.raises(IdentityError, match="does not verify"):
        verify_peer(leaf.chain, bundle(Mint("new")), EAST, judged_at(leaf.certificate, later))
    assert judged_at(leaf.certificate, NOW) == NOW


@pytest.mark.parametrize(
    "known",
    [
        {"trust_domain": "east.example"},
        {"trust_domain": "east.example", "spiffe_id": ID},
        {"dns_name": "gw.east.example"},
        {"fingerprint": "ab" * 32},
    ],
)
def test_a_configured_peer_says_what_is_expected(known):
    expected = Expected.of_peer(Peer(bundle="east.pem", **known))
    given = {
        "trust_domain": expected.trust_domain,
        "dns_name": expected.dns_name,
        "fingerprint": expected.fingerprint,
    }
    assert {key: value for key, value in given.items() if value} == {k: v for k, v in known.items() if k in given}
    assert expected.spiffe_id == (SpiffeId.parse(known["spiffe_id"]) if "spiffe_id" in known else None)


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"trust_domain": "a", "dns_name": "b"},
        {"dns_name": "a", "fingerprint": "b"},
        {"trust_domain": "a", "spiffe_id": SpiffeId("b", "/c")},
    ],
)
def test_a_peer_cannot_be_known_by_nothing_or_by_two_things(known):
    with pytest.raises(IdentityError):
        Expected(**known)
