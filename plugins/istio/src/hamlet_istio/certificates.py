"""What the mesh's certificate says, and whether its key is its own. It opens no file."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization


def names_of(pem: str) -> tuple[str, ...]:
    """The URI names, then the DNS names, of the first certificate of `pem`. `ValueError` for what is none."""
    try:
        names = x509.load_pem_x509_certificates(pem.encode())[0].extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return ()
    found = names.value
    return (
        *found.get_values_for_type(x509.UniformResourceIdentifier),
        *(name.lower() for name in found.get_values_for_type(x509.DNSName)),
    )


def require_pair(pem: str, key: str) -> None:
    """Raise `ValueError`, with a sentence, unless `key` is the private key of the first certificate of `pem`."""
    private = serialization.load_pem_private_key(key.encode(), password=None)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    leaf = x509.load_pem_x509_certificates(pem.encode())[0]
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        message = "the key is not the certificate's"
        raise ValueError(message)


def require_authorities(bundle: str) -> None:
    """Raise `ValueError` unless `bundle` holds certificates."""
    x509.load_pem_x509_certificates(bundle.encode())
