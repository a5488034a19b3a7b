"""The files that a terminating gateway's proxy reads: our certificate and key, each peer's authorities.

A proxy reads a file when it is told its path, and never again. So a file is named after its content and what is new
has a new path, which the config entry then says. The name of an authority's file is also the mark of our links.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hamlet_core.api import Trust

_DIGEST = 16
_AUTHORITIES = re.compile(r"hamlet_(?P<domain>.+)_(?P<peer>[^_]+)_[0-9a-f]{16}\.ca\.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The names of the files in force: of our certificate, its key, and the authorities by peer."""

    certificate: str
    key: str
    authorities: Mapping[str, str]

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset((self.certificate, self.key, *self.authorities.values()))


def files_of(trust: Trust, trust_domain: str) -> tuple[Credentials, dict[str, str]]:
    """The files for `trust` in the mesh of `trust_domain`: their names, and the content by name.

    Raises `ValueError`, with a sentence, for a certificate without its key and for a bundle that is none.
    """
    _require_pair(trust.certificate, trust.key)
    own = f"hamlet_{trust_domain}_{_digest(trust.certificate, trust.key)}"
    content = {f"{own}.pem": trust.certificate, f"{own}.key": trust.key}
    authorities = {}
    for peer in trust.peers:
        try:
            x509.load_pem_x509_certificates(peer.bundle.encode())
        except ValueError as error:
            message = f"the bundle of {peer.peer} holds no certificates that can be read: {error}"
            raise ValueError(message) from error
        name = f"hamlet_{trust_domain}_{peer.peer}_{_digest(peer.bundle)}.ca.pem"
        authorities[peer.peer] = name
        content[name] = peer.bundle
    return Credentials(certificate=f"{own}.pem", key=f"{own}.key", authorities=authorities), content


def peer_of(path: str, trust_domain: str) -> str:
    """Whose authorities a file of ours holds, by its name; an empty string for a file of someone else."""
    found = _AUTHORITIES.fullmatch(path.rpartition("/")[2])
    return found["peer"] if found and found["domain"] == trust_domain else ""


def write(directory: Path, content: Mapping[str, str]) -> None:
    """Have each file in the folder, whole at any moment and for our user's eyes alone. Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in content.items():
        path = directory / name
        if path.exists() and path.read_text() == text:
            continue
        temporary = directory / f".{name}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
        temporary.replace(path)


def sweep(directory: Path, trust_domain: str, needed: Collection[str]) -> None:
    """Remove our mesh's files that are not among the names `needed`. Raises `OSError`."""
    for path in directory.glob(f"hamlet_{trust_domain}_*"):
        if path.name not in needed:
            path.unlink(missing_ok=True)


def _require_pair(certificate: str, key: str) -> None:
    try:
        leaf = x509.load_pem_x509_certificates(certificate.encode())[0]
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        message = f"our certificate or its key cannot be read: {error}"
        raise ValueError(message) from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        message = "our key is not that of our certificate"
        raise ValueError(message)


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=_DIGEST // 2).hexdigest()
