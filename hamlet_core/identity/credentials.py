"""Our own certificate and key, as read from PEM and found to belong together. No file is opened here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hamlet_core.identity.spiffe import IdentityError, SpiffeId, spiffe_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What we present: the leaf first, then its intermediates. The key never shows in a repr."""

    chain: tuple[x509.Certificate, ...]
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    spiffe_id: SpiffeId | None
    """None when the certificate has no SPIFFE ID: peers then know us by DNS name or fingerprint."""

    @property
    def leaf(self) -> x509.Certificate:
        """Our own certificate."""
        return self.chain[0]

    @property
    def not_after(self) -> datetime:
        """When it expires."""
        return self.leaf.not_valid_after_utc

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes) -> Credentials:
        """Read both; IdentityError when either cannot be read or the key is not the leaf's."""
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificate_pem))
        except ValueError as error:
            raise IdentityError(
                f"our certificate cannot be read: {error}", mend="it must be PEM: the leaf, then intermediates"
            ) from error
        try:
            key = load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            # The library's message speaks of the form, never of the content.
            raise IdentityError(
                f"our private key cannot be read: {error}", mend="it must be PEM and not encrypted"
            ) from error
        if key.public_key() != chain[0].public_key():
            raise IdentityError(
                "our private key is not the key of our certificate",
                mend="replace both; the earlier pair stays in use until they match",
            )
        return cls(
            chain=chain,
            certificate_pem=certificate_pem,
            key_pem=key_pem,
            spiffe_id=spiffe_id(chain[0]),
        )
