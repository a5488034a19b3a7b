"""Authorities and certificates of any shape, well-formed or not, for tests of who is let in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = datetime.now(UTC).replace(microsecond=0)
"""When this was imported. Certificates that are told no times are valid since an hour before it."""
HOUR = timedelta(hours=1)
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def usage(*which: str) -> x509.KeyUsage:
    """The extension keyUsage with these bits, by the names of `cryptography` (`digital_signature`)."""
    return x509.KeyUsage(**{name: name in which for name in _USAGES})


def ec_key() -> Key:
    """A new key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key() -> Key:
    """A new RSA key of 2,048 bits."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate with its key; `chain` is the leaf and the intermediates it would be presented with."""

    chain: tuple[x509.Certificate, ...]
    key: Key

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf itself."""
        return self.chain[0]

    @property
    def pem(self) -> bytes:
        """The chain, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    @property
    def key_pem(self) -> bytes:
        """The key, PKCS #8, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str = "agent") -> tuple[Path, Path]:
        """Write `name`.crt and `name`.key, which nobody else can read, into `folder`; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)
        certificate.write_bytes(self.pem)
        return certificate, key


class Mint:
    """An authority that signs whatever it is asked to. `under` makes it an intermediate.

    Unless `start` and `end` say otherwise, it and what it signs are valid since an hour before `NOW`, and for
    a day or an hour from when they are made.
    """

    def __init__(
        self,
        name: str = "an authority",
        *,
        key: Key | None = None,
        under: Mint | None = None,
        ca: bool | None = True,
        path_length: int | None = None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        start: datetime = NOW - HOUR,
        end: datetime | None = None,
        key_identifiers: bool = True,
    ) -> None:
        self.key = key or ec_key()
        self.under = under
        self.key_identifiers = key_identifiers
        issuer = under or self
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = list(extensions)
        if ca is not None:
            own.append((x509.BasicConstraints(ca=ca, path_length=path_length), True))
        if key_identifiers:
            own.append((x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False))
        self.certificate = _sign(
            self.subject, self.key, issuer.subject, issuer.key, own, start, end or _now() + 24 * HOUR
        )

    @property
    def pem(self) -> bytes:
        """Its own certificate: the bundle of whoever believes it."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def path(self) -> tuple[x509.Certificate, ...]:
        """What a leaf of this authority is presented with: the intermediates below the root."""
        return (self.certificate, *self.under.path) if self.under else ()

    def leaf(
        self,
        *uris: str,
        dns: Sequence[str] = (),
        common_name: str = "",
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        start: datetime = NOW - HOUR,
        end: datetime | None = None,
        key: Key | None = None,
    ) -> Leaf:
        """Sign a certificate with these names, of a new key unless one is given."""
        key = key or ec_key()
        names = [*(x509.UniformResourceIdentifier(uri) for uri in uris), *(x509.DNSName(name) for name in dns)]
        own = list(extensions)
        if names:
            # RFC 5280, 4.2.1.6: critical where the subject is empty, as SPIRE does it
            own.append((x509.SubjectAlternativeName(names), not common_name))
        if self.key_identifiers:
            own.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False))
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        certificate = _sign(x509.Name(attributes), key, self.subject, self.key, own, start, end or _now() + HOUR)
        return Leaf(chain=(certificate, *self.path), key=key)


def _sign(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    issuer_key: Key,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    start: datetime,
    end: datetime,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())
