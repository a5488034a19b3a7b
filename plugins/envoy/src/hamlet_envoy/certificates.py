"""What certificates say: the names in ours, and which authorities a bundle holds. It opens no file."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization


def leaf(pem: str) -> x509.Certificate:
    """The first certificate of `pem`. Raises `ValueError` for what is none."""
    return x509.load_pem_x509_certificates(pem.encode())[0]


def require_pair(pem: str, key: str) -> None:
    """Raise `ValueError`, with a sentence, unless `key` is the private key of the first certificate of `pem`."""
    private = serialization.load_pem_private_key(key.encode(), password=None)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf(pem).public_key().public_bytes(*form):
        message = "the key is not the certificate's"
        raise ValueError(message)


def uri_names(pem: str) -> tuple[str, ...]:
    """The URI names of the first certificate of `pem`."""
    return _names(pem, x509.UniformResourceIdentifier)


def dns_names(pem: str) -> tuple[str, ...]:
    """The DNS names of the first certificate of `pem`, in lower case."""
    return tuple(name.lower() for name in _names(pem, x509.DNSName))


def _names(pem: str, kind: type[x509.UniformResourceIdentifier | x509.DNSName]) -> tuple[str, ...]:
    try:
        names = leaf(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(kind))


def covers(pattern: str, name: str) -> bool:
    """Whether a certificate's DNS name fits `name`: a `*` stands for the whole first label (RFC 6125, 6.4.3)."""
    if pattern.startswith("*."):
        _, dot, rest = name.partition(".")
        return bool(dot) and rest == pattern[2:]
    return pattern == name


def authorities(bundle: str) -> dict[str, datetime]:
    """The certificates of a bundle by fingerprint (SHA-256, hex), with when each expires (UTC)."""
    return {
        certificate.fingerprint(hashes.SHA256()).hex(): certificate.not_valid_after_utc
        for certificate in x509.load_pem_x509_certificates(bundle.encode())
    }


def has_root(bundle: str) -> bool:
    """Whether one of the bundle's authorities has signed itself."""
    return any(each.subject == each.issuer for each in x509.load_pem_x509_certificates(bundle.encode()))
