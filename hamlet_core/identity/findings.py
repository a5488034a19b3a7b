"""What `hamlet check` says about certificates and bundles: tables in, findings out, the time an argument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hamlet_core.api import Finding, Severity
from hamlet_core.identity.credentials import Credentials
from hamlet_core.identity.spiffe import (
    Expected,
    IdentityError,
    SpiffeId,
    TrustBundle,
    fingerprint,
    judged_at,
    uri_names,
    validity,
    verify_peer,
)
from hamlet_core.words import counted

_OWN = "identity"
_IN_FORCE = "the last good one is in force"
_DER, _SPKI = Encoding.DER, PublicFormat.SubjectPublicKeyInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A file of ours, or of `peer`, that is not usable now.

    `what` is its key in the configuration (certificate, key, bundle), `in_force` whether an earlier content of it is.
    """

    peer: str | None
    what: str
    path: Path
    problem: str
    in_force: bool


def unusable_findings(files: Iterable[Unusable]) -> Iterator[Finding]:
    """One for each file."""
    for file in files:
        message = f"{file.path}: {file.problem}" + (f"; {_IN_FORCE}" if file.in_force else "")
        if file.peer is None:
            mend = "replace the file (`hamlet pki` makes one for development); it is read again by itself"
            yield _error(f"{_OWN}: {file.what}", message, mend)
        else:
            yield _error(
                f"peer {file.peer}: {file.what}", message, f"ask the operator of {file.peer} for its bundle.pem"
            )


def own_findings(
    credentials: Credentials, bundle: TrustBundle | None, trust_domain: str | None, now: datetime
) -> Iterator[Finding]:
    """Judge our certificate by itself, by our own `bundle` and by our mesh's `trust_domain`, where given."""
    leaf = credentials.leaf
    known_as = str(credentials.spiffe_id or "no SPIFFE ID")
    trouble = [*_lifetime(leaf, _OWN, f"our certificate ({known_as})", now)]
    if credentials.spiffe_id is None:
        trouble.append(
            _warning(
                _OWN,
                "our certificate has no SPIFFE ID (exactly one URI SAN, with a path)",
                "get one with a SPIFFE ID, or have peers know us by dns_name or fingerprint",
            )
        )
    elif trust_domain is not None and credentials.spiffe_id.trust_domain != trust_domain:
        trouble.append(
            _error(
                _OWN,
                f"our certificate is {known_as}, but mesh.trust_domain is {trust_domain}",
                "one of the two is wrong; peers go by the certificate",
            )
        )
    if bundle is not None:
        # Its lifetime was judged above; here it is only about who signed it.
        moment = max(judged_at(leaf, now), leaf.not_valid_before_utc)
        try:
            verify_peer(credentials.chain, bundle, Expected(fingerprint=fingerprint(leaf)), moment)
        except IdentityError as error:
            message = f"our certificate does not verify against our own bundle {bundle.source}: {error}"
            trouble.append(
                _error(_OWN, message, "peers that were given this bundle refuse us: give them the right one")
            )
    yield from trouble
    if not trouble:
        yield Finding(subject=_OWN, severity=Severity.OK, message=f"we are {known_as}, valid {validity(leaf)}")


def bundle_findings(peer: str, bundle: TrustBundle, now: datetime) -> Iterator[Finding]:
    """Judge one peer's bundle: it is of use as long as one of its authorities is valid."""
    subject = f"peer {peer}"
    trouble = [
        finding
        for certificate in bundle.certificates
        for finding in _lifetime(
            certificate, subject, f"authority {certificate.subject.rfc4514_string()!r} in {bundle.source}", now
        )
    ]
    valid = any(c.not_valid_before_utc <= now <= c.not_valid_after_utc for c in bundle.certificates)
    for finding in trouble:
        # Beside a valid authority an expired one is the rest of a rotation: harmless, worth tidying.
        yield _warning(subject, finding.message, finding.mend) if valid else finding
    if not trouble:
        count = counted(len(bundle.certificates), "certificate")
        yield Finding(subject=subject, severity=Severity.OK, message=f"trust bundle of {count} is valid")


def wrong_bundle_findings(
    peer: str, bundle: TrustBundle, trust_domain: str | None, own: TrustBundle | None
) -> Iterator[Finding]:
    """Find what cannot be this peer's: an authority of our `own` bundle, or one of another trust domain than its.

    What is our authority's too would let our own certificates pass for the peer's. An authority says its trust
    domain by a URI SAN (X.509-SVID, section 3.1); one without, and a peer without `trust_domain`, are not judged.
    """
    # The file may be the one that identity.bundle names: it must not be overwritten.
    mend = f"ask the operator of {peer} for its bundle.pem, and let peers.{peer}.bundle name a file of that alone"
    ours = set(own.certificates) if own is not None else set()
    for certificate in dict.fromkeys(bundle.certificates):
        name = certificate.subject.rfc4514_string()
        others = sorted(_trust_domains(certificate) - {trust_domain}) if trust_domain is not None else []
        if own is not None and certificate in ours:
            message = f"the authority {name!r} in {bundle.source} is one of our own, in {own.source}"
            yield _error(f"peer {peer}", message, mend)
        elif others:
            message = (
                f"the authority {name!r} in {bundle.source} is of trust domain {', '.join(others)},"
                f" but peers.{peer}.trust_domain is {trust_domain}"
            )
            yield _error(f"peer {peer}", message, f"{mend}; or the trust domain is wrong")


def _trust_domains(authority: x509.Certificate) -> set[str]:
    """Of which trust domains it says it is; other URIs than SPIFFE's say nothing."""
    found = set()
    for uri in uri_names(authority):
        with suppress(IdentityError):
            found.add(SpiffeId.parse(uri).trust_domain)
    return found


def shared_authority_findings(bundles: Mapping[str, TrustBundle]) -> Iterator[Finding]:
    """Warn where two peers share an authority: it can then speak for either of them."""
    owners: dict[x509.Certificate, list[str]] = {}
    for peer, bundle in bundles.items():
        for certificate in set(bundle.certificates):
            owners.setdefault(certificate, []).append(peer)
    for certificate, peers in owners.items():
        if len(peers) > 1:
            name = certificate.subject.rfc4514_string()
            yield _warning(
                f"peer {peers[1]}",
                f"the authority {name!r} is in the bundles of {' and '.join(peers)}: it can speak for each of them",
                "give every peer its own bundle, unless one organisation really runs both",
            )


def same_name_findings(bundles: Mapping[str, TrustBundle]) -> Iterator[Finding]:
    """Warn of authorities that the server's TLS cannot tell apart: one name, several keys, no key identifier.

    Its one store looks an issuer up by name, then by key identifier, and never tries the next signature: the
    later peer is refused, though never taken for the other.
    """
    named: dict[x509.Name, dict[x509.Certificate, str]] = {}
    for peer, bundle in bundles.items():
        for certificate in bundle.certificates:
            named.setdefault(certificate.subject, {}).setdefault(certificate, peer)
    for name, owners in named.items():
        keys = {certificate.public_key().public_bytes(_DER, _SPKI) for certificate in owners}
        if len(keys) > 1 and not all(_has_key_identifier(certificate) for certificate in owners):
            peers = sorted(set(owners.values()))
            yield _warning(
                f"peer {peers[-1]}",
                f"several authorities in the bundles of {' and '.join(peers)} are named {name.rfc4514_string()!r} and"
                " lack a key identifier: some of their certificates may be refused",
                "ask the operator for an authority with a subject of its own or a subject key identifier",
            )


def _has_key_identifier(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return True


def _lifetime(certificate: x509.Certificate, subject: str, what: str, now: datetime) -> Iterator[Finding]:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    mend = "replace it; the file is read again by itself"
    if now < start:
        yield _error(subject, f"{what} is not valid before {start:%Y-%m-%dT%H:%MZ}", "check the clocks, or wait")
    elif end < now:
        yield _error(subject, f"{what} expired at {end:%Y-%m-%dT%H:%MZ}", mend)
    elif end - now < (end - start) / 5:
        # A rotation at half of the lifetime, which is usual, should have replaced it by now.
        yield _warning(subject, f"{what} expires at {end:%Y-%m-%dT%H:%MZ}", mend)


def _warning(subject: str, message: str, mend: str) -> Finding:
    return Finding(subject=subject, severity=Severity.WARNING, message=message, mend=mend)


def _error(subject: str, message: str, mend: str) -> Finding:
    return Finding(subject=subject, severity=Severity.ERROR, message=message, mend=mend)
