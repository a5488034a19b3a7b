"""A development authority for one mesh: a CA and short-lived certificates with a SPIFFE ID, as files.

For demos, tests and first steps. In production the mesh's own authority (SPIRE, Istio, Consul, a company's
CA) signs, and nothing here is used.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hamlet_core.identity.spiffe import IdentityError, SpiffeId, uri_names

_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(_DNS_LABEL)
_DNS_NAME = re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*")
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """What `init` wrote. `bundle` is what a peer's operator gets; `key` never leaves this machine."""

    trust_domain: str
    certificate: Path
    key: Path
    bundle: Path
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What `issue` wrote."""

    spiffe_id: SpiffeId
    dns_names: tuple[str, ...]
    certificate: Path
    key: Path
    not_after: datetime


def init(directory: Path, trust_domain: str, days: float = 365) -> Authority:
    """Make a CA for `trust_domain`: ca.crt, ca.key (0600) and bundle.pem in `directory`.

    Raises IdentityError when one is there already (its certificates would all stop to verify), when the
    trust domain is no DNS name, or when the folder cannot be written.
    """
    _require(_DNS_NAME, trust_domain, "the trust domain", "a lower-case domain name, for example west.example")
    if days <= 0:
        raise IdentityError(f"an authority that is valid for {days} days is none", mend="give more than 0")
    files = [directory / name for name in ("ca.key", "ca.crt", "bundle.pem")]
    for path in files:
        if path.exists():
            raise IdentityError(
                f"{path} exists: an authority is not overwritten",
                mend="choose another folder, or remove the old authority by hand",
            )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"Hamlet development authority of {trust_domain}")
    not_after = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    builder = _certificate(subject, subject, key, not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    # X.509-SVID, section 4.1: the SPIFFE ID of an authority is its trust domain's, without a path.
    uri = x509.UniformResourceIdentifier(str(SpiffeId(trust_domain, "")))
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    builder = builder.add_extension(_key_identifier(key), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    _make_directory(directory)
    for path, content, mode in zip(files, (_key_pem(key), pem, pem), (0o600, 0o644, 0o644), strict=True):
        _write(path, content, mode, replace=False)
    return Authority(
        trust_domain=trust_domain, key=files[0], certificate=files[1], bundle=files[2], not_after=not_after
    )


def unusable_authority() -> bytes:
    """A CA certificate in PEM whose key nobody has: what to trust when nobody is to be trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Hamlet authority of nobody")
    builder = _certificate(name, name, key, datetime.now(UTC) + timedelta(days=36500))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def issue(
    directory: Path,
    *,
    name: str = "agent",
    dns_names: Sequence[str] = (),
    hours: float = 24,
    out: Path | None = None,
) -> Issued:
    """Sign a certificate for `spiffe://<trust domain>/hamlet/<name>` with the authority in `directory`.

    Writes `<name>.key` (0600) and `<name>.crt` into `out` (default: `directory`), replacing earlier ones:
    a running agent takes them over. It never outlives its authority. Raises IdentityError.
    """
    _require(_NAME, name, "the name", "lower-case letters, digits and hyphens")
    if name == "ca":
        raise IdentityError("the name 'ca' is the authority's own", mend="choose another name")
    if hours <= 0:
        raise IdentityError(f"a certificate that is valid for {hours} hours is none", mend="give more than 0")
    authority, authority_key = _load(directory)
    trust_domain = SpiffeId.parse("".join(uri_names(authority))).trust_domain
    sans = tuple(dns_names) or (f"{name}.{trust_domain}",)
    for san in sans:
        # RFC 6125, section 6.4.3: a wildcard is the whole of the leftmost label. An ingress covers its names so.
        _require(_DNS_NAME, san.removeprefix("*."), "the DNS name", "a lower-case domain name, or *. and one")
    now = datetime.now(UTC).replace(microsecond=0)
    if authority.not_valid_after_utc <= now:
        raise IdentityError(
            f"the authority in {directory} expired on {authority.not_valid_after_utc:%Y-%m-%d}",
            mend="make a new one with `hamlet pki init` and give its bundle.pem to every peer",
        )
    not_after = min(now + timedelta(hours=hours), authority.not_valid_after_utc)
    identity = SpiffeId(trust_domain, f"/hamlet/{name}")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _certificate(_name(f"hamlet {name}"), authority.subject, key, not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs=False), critical=True)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names = [x509.UniformResourceIdentifier(str(identity)), *(x509.DNSName(san) for san in sans)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(_key_identifier(key), critical=False)
    # Two authorities of one name in one store are told apart by this alone.
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    certificate = builder.sign(authority_key, hashes.SHA256())
    out = directory if out is None else out
    _make_directory(out)
    issued = Issued(
        spiffe_id=identity,
        dns_names=sans,
        certificate=out / f"{name}.crt",
        key=out / f"{name}.key",
        not_after=not_after,
    )
    _write(issued.key, _key_pem(key), 0o600, replace=True)
    _write(issued.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644, replace=True)
    return issued


def _require(pattern: re.Pattern[str], value: str, what: str, rule: str) -> None:
    if len(value) > 253 or not pattern.fullmatch(value):
        raise IdentityError(f"{what} {value!r} must be {rule}")


def _name(common_name: str) -> x509.Name:
    # RFC 5280, upper bound of a common name: 64 characters; the identity is in the SAN.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _CLOCK_SKEW)
        .not_valid_after(not_after)
    )


def _key_identifier(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    mend = f"make an authority with `hamlet pki init {directory} --trust-domain ...`"
    try:
        certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise IdentityError(f"no authority can be read in {directory}: {error}", mend=mend) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise IdentityError(f"ca.key in {directory} is not the key of ca.crt", mend=mend)
    return certificate, key


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise IdentityError(f"the folder {directory} cannot be made: {error}", mend="choose another") from error


def _write(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Put `content` at `path` in one step, with `mode` from its first byte on."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                new.replace(path)
            else:
                path.hardlink_to(new)  # fails, where a rename would overwrite
        finally:
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
    except OSError as error:
        raise IdentityError(f"{path} cannot be written: {error}", mend="check the folder's rights") from error
