"""Who a certificate chain belongs to: SPIFFE IDs, trust bundles, and the verdict on a peer's chain.

Pure: bytes and certificates in, an identity or an `IdentityError` out. No file, no socket, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from hamlet_core.api import HamletError

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)
_SCHEME = "spiffe://"
_LONGEST_ID = 2048
_LEAF_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}


class IdentityError(HamletError):
    """A certificate, a key or a bundle is not what it must be.

    What `verify_peer` and `IdentitySource.identify` say may be sent to the other side: it holds no path.
    `mend` is for our operator alone.
    """


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A SPIFFE ID; `path` is empty for the trust domain itself, or begins with a slash."""

    trust_domain: str
    path: str

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read `spiffe://<trust domain>[/<path>]` as the SPIFFE ID standard (section 2) demands it.

        That rules out user, port, query, fragment and percent-encoding (by the character sets), and
        empty, `.` and `..` segments. Raises IdentityError saying which rule is broken.
        """
        shown = repr(text[:200])
        if len(text.encode()) > _LONGEST_ID:
            raise IdentityError(f"{shown}... is no SPIFFE ID: longer than {_LONGEST_ID} bytes")
        if not text.startswith(_SCHEME):
            raise IdentityError(f"{shown} is no SPIFFE ID: it must begin with {_SCHEME}")
        trust_domain, slash, path = text[len(_SCHEME) :].partition("/")
        if not _TRUST_DOMAIN.fullmatch(trust_domain):
            raise IdentityError(
                f"{shown} is no SPIFFE ID: the trust domain {trust_domain[:80]!r} must be 1 to 255 lower-case"
                " letters, digits, dots, hyphens and underscores"
            )
        for segment in path.split("/") if slash else ():
            if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
                raise IdentityError(
                    f"{shown} is no SPIFFE ID: the path segment {segment[:80]!r} must be letters, digits, dots,"
                    " hyphens and underscores, not empty, '.' or '..'"
                )
        return cls(trust_domain, slash + path)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}{self.path}"


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The authorities of one trust domain. `source` says where they came from, for messages."""

    certificates: tuple[x509.Certificate, ...]
    source: str

    @classmethod
    def from_pem(cls, pem: bytes, *, source: str) -> TrustBundle:
        """Read one or several CA certificates; IdentityError when there is none, or anything else in it."""
        mend = f"put the peer's bundle.pem, and nothing else, into {source}"
        if b"PRIVATE KEY-----" in pem:
            raise IdentityError(
                "a trust bundle holds a private key",
                mend=f"{mend}; the key that was handed over is compromised: replace that authority",
            )
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise IdentityError("a trust bundle holds no certificate in PEM form", mend=mend)
        try:
            certificates = tuple(x509.load_pem_x509_certificates(pem))
        except ValueError as error:
            raise IdentityError(f"a trust bundle cannot be read: {error}", mend=mend) from error
        for number, certificate in enumerate(certificates, 1):
            if not is_authority(certificate):
                raise IdentityError(
                    f"certificate {number} of a trust bundle ({_subject(certificate)}) is not a CA certificate",
                    mend=f"{mend}: the authority's certificate, not the agent's",
                )
        return cls(certificates, source)

    @property
    def pem(self) -> bytes:
        """The certificates in PEM, and nothing that stood between them in the file."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.certificates)


class PeerSettings(Protocol):
    """What of a peer's configuration says how to know it (`config.model.Peer` has it)."""

    @property
    def trust_domain(self) -> str | None:
        """Its SPIFFE trust domain."""

    @property
    def spiffe_id(self) -> str | None:
        """Its exact SPIFFE ID."""

    @property
    def dns_name(self) -> str | None:
        """A DNS SAN to require."""

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of its certificate, lower-case hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How a peer is known: by exactly one of trust domain (narrowed by `spiffe_id`), DNS SAN, fingerprint.

    `fingerprint` is the SHA-256 of the certificate in lower-case hex without colons.
    """

    trust_domain: str | None = None
    spiffe_id: SpiffeId | None = None
    dns_name: str | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if [self.trust_domain, self.dns_name, self.fingerprint].count(None) != 2:
            raise IdentityError("a peer is known by exactly one of trust_domain, dns_name and fingerprint")
        if self.spiffe_id is not None and self.spiffe_id.trust_domain != self.trust_domain:
            raise IdentityError(f"the SPIFFE ID {self.spiffe_id} is not of trust domain {self.trust_domain}")

    @classmethod
    def of_peer(cls, peer: PeerSettings) -> Expected:
        """Take it from a peer's configuration; IdentityError when its SPIFFE ID is none."""
        return cls(
            trust_domain=peer.trust_domain,
            spiffe_id=SpiffeId.parse(peer.spiffe_id) if peer.spiffe_id else None,
            dns_name=peer.dns_name,
            fingerprint=peer.fingerprint,
        )

    def __str__(self) -> str:
        if self.spiffe_id:
            return f"the SPIFFE ID {self.spiffe_id}"
        if self.trust_domain:
            return f"one SPIFFE ID of trust domain {self.trust_domain}"
        return f"the DNS name {self.dns_name}" if self.dns_name else f"the certificate sha256:{self.fingerprint}"


def verify_peer(chain: Sequence[x509.Certificate], bundle: TrustBundle, expected: Expected, now: datetime) -> str:
    """Return the identity that `chain` (leaf first, then intermediates) proves, or raise IdentityError.

    The chain must lead to an authority of `bundle` and no other, hold at `now`, and its leaf must be what
    `expected` says. The identity is the SPIFFE ID, `dns:<name>` or `sha256:<hex>`.
    """
    if not chain:
        raise IdentityError("no certificate was presented", mend="the other side must present its own")
    leaf = chain[0]
    identity = _identity(leaf, expected)
    if identity is None:
        raise IdentityError(
            f"the certificate presented is {presented(leaf)}; expected is {expected}",
            mend="compare with the peer's operator; change the peer in the configuration if this one is right",
        )
    # A pinned certificate may be self-signed and so its own authority; what it names is exact all the same.
    leaf_policy = _PINNED if expected.fingerprint else _LEAF
    builder = PolicyBuilder().store(Store(list(bundle.certificates))).time(now)
    builder = builder.extension_policies(ca_policy=_AUTHORITY, ee_policy=leaf_policy)
    try:
        builder.build_client_verifier().verify(leaf, list(chain[1:]))
    except (VerificationError, ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        # The library gives the debug form of the certificate in parentheses: noise in a log line.
        cause = re.sub(r" \(encountered processing .*", "", str(error))
        cause = cause.removeprefix("validation failed: ").removeprefix("candidates exhausted: ")
        raise IdentityError(
            f"the certificate of {identity} does not verify against that peer's own trust bundle: {cause}",
            mend=f"valid {validity(leaf)}, issued by {leaf.issuer.rfc4514_string()!r}; if that authority is the"
            f" peer's, put its new bundle into {bundle.source}",
        ) from error
    return identity


def judged_at(leaf: x509.Certificate, now: datetime) -> datetime:
    """When to judge the chain of a connection that already stands.

    A handshake proved who dialled. That the leaf has run out since does not undo this (SVIDs live an hour,
    streams for months); that its authority has gone from the bundle does.
    """
    return min(now, leaf.not_valid_after_utc)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate in lower-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def uri_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The URI SANs; none when the extension is missing or cannot be read."""
    names = _alternative_names(certificate)
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else ()


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS SANs in lower case; none when the extension is missing or cannot be read."""
    names = _alternative_names(certificate)
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName)) if names else ()


def spiffe_id(certificate: x509.Certificate) -> SpiffeId | None:
    """The SPIFFE ID of a workload's certificate: its one URI SAN (X.509-SVID, section 2). Else None."""
    uris = uri_names(certificate)
    if len(uris) != 1:
        return None
    try:
        identity = SpiffeId.parse(uris[0])
    except IdentityError:
        return None
    return identity if identity.path else None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the certificate says that it may sign others (basicConstraints CA:TRUE)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def presented(leaf: x509.Certificate) -> str:
    """Say in a few words what a leaf claims to be."""
    claims = [*uri_names(leaf), *(f"DNS:{name}" for name in dns_names(leaf))]
    return ", ".join(claim[:200] for claim in claims[:5]) or f"{_subject(leaf)} without a URI or DNS SAN"


def validity(certificate: x509.Certificate) -> str:
    """From when to when it is valid, for messages."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"from {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}"


def _identity(leaf: x509.Certificate, expected: Expected) -> str | None:
    """What the leaf is called if it is what is expected; whether anyone vouches for it is not asked here."""
    if expected.fingerprint:
        return f"sha256:{expected.fingerprint}" if fingerprint(leaf) == expected.fingerprint else None
    if expected.dns_name:
        return f"dns:{expected.dns_name}" if expected.dns_name in dns_names(leaf) else None
    identity = spiffe_id(leaf)
    if identity is None or identity.trust_domain != expected.trust_domain:
        return None
    return str(identity) if expected.spiffe_id in {None, identity} else None


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def _subject(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string()[:200] or "an empty subject")


# The library's defaults are those of the public web: a DNS SAN, key identifiers, no URI in an authority.
# SPIFFE issuers keep other rules (X.509-SVID, sections 2 to 4), so every known extension is permitted and
# the rules that matter here are put back one by one. Validity, signatures, path length, name constraints,
# key sizes and unknown critical extensions are checked by the library in any case.


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority's key usage lacks keyCertSign")


def _is_authority(_policy: Policy, _certificate: x509.Certificate, basic: x509.BasicConstraints) -> None:
    if not basic.ca:
        raise ValueError("a certificate that signed another is not a CA")


def _may_not_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and (usage.key_cert_sign or usage.crl_sign):
        raise ValueError("the leaf's key usage is an authority's (keyCertSign or cRLSign)")


def _is_leaf(_policy: Policy, _certificate: x509.Certificate, basic: x509.BasicConstraints | None) -> None:
    if basic is not None and basic.ca:
        raise ValueError("the leaf is a CA certificate")


def _may_speak_tls(_policy: Policy, _leaf: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and _LEAF_PURPOSES.isdisjoint(usage):
        raise ValueError("the leaf's extended key usage allows neither TLS client nor TLS server")


_AUTHORITY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
)
_PINNED = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_speak_tls)
_LEAF = _PINNED.may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_leaf).may_be_present(
    x509.KeyUsage, Criticality.AGNOSTIC, _may_not_sign
)
