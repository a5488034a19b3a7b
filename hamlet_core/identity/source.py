"""The certificate files of this agent: read, read again when they change, and asked who a peer is.

What cannot be read keeps its last good form in force and is told in `problems`. It opens no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from watchfiles import awatch

from hamlet_core.api import Finding, Severity
from hamlet_core.identity.credentials import Credentials
from hamlet_core.identity.findings import (
    Unusable,
    bundle_findings,
    own_findings,
    same_name_findings,
    shared_authority_findings,
    unusable_findings,
    wrong_bundle_findings,
)
from hamlet_core.identity.spiffe import (
    Expected,
    IdentityError,
    PeerSettings,
    TrustBundle,
    dns_names,
    fingerprint,
    judged_at,
    presented,
    spiffe_id,
    verify_peer,
)

__all__ = ["Credentials", "IdentitySettings", "IdentitySource", "TrustedPeer"]

_SWEEP_SECONDS = 60.0
_log = structlog.get_logger(__name__)


class IdentitySettings(Protocol):
    """What of our configuration says who we are (`config.model.Identity` has it); paths are absolute."""

    @property
    def certificate(self) -> Path:
        """PEM: leaf, then intermediates."""

    @property
    def key(self) -> Path:
        """PEM: its private key."""

    @property
    def bundle(self) -> Path | None:
        """PEM: our own authorities, for `findings` alone."""


class TrustedPeer(PeerSettings, Protocol):
    """What of a peer's configuration says how to know it and by whose word."""

    @property
    def bundle(self) -> Path:
        """PEM: the peer's own authorities; absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Everything read, swapped as a whole: gRPC asks from threads of its own."""

    identity: IdentitySettings
    expected: Mapping[str, Expected] = field(default_factory=dict)
    bundle_of: Mapping[str, Path] = field(default_factory=dict)
    credentials: Credentials | None = None
    bundles: Mapping[Path, TrustBundle] = field(default_factory=dict)
    problems: Mapping[Path, str] = field(default_factory=dict)

    def material(self) -> object:
        """What a connection is made of; when it is equal, nothing has to be done anew."""
        pems = {path: bundle.pem for path, bundle in self.bundles.items()}
        return self.own(), pems, self.expected, self.bundle_of

    def own(self) -> tuple[bytes, bytes] | None:
        """Our certificate and key in PEM."""
        own = self.credentials
        return None if own is None else (own.certificate_pem, own.key_pem)


class IdentitySource:
    """Our credentials and every peer's bundle, from files. Nothing that is wrong with a file raises here.

    All properties may be read from any thread; `reload`, `configure` and `watch` belong to one.
    """

    def __init__(self, identity: IdentitySettings, peers: Mapping[str, TrustedPeer]) -> None:
        self._state = _State(identity=identity)
        self._version = 0
        self._reconfigured = asyncio.Event()
        self.configure(identity, peers)

    @property
    def version(self) -> int:
        """Grows with every change of certificates, bundles or peers: what was made of an older one is stale."""
        return self._version

    @property
    def problems(self) -> Mapping[Path, str]:
        """What is wrong with a file now, by path; the last good content stays in force."""
        return MappingProxyType(dict(self._state.problems))

    @property
    def credentials(self) -> Credentials:
        """What we present; IdentityError as long as no good pair was ever read."""
        state = self._state
        if state.credentials is None:
            reasons = [state.problems.get(path) for path in (state.identity.certificate, state.identity.key)]
            raise IdentityError(
                f"we have no certificate: {'; '.join(reason for reason in reasons if reason)}",
                mend=f"put a matching pair at {state.identity.certificate} and {state.identity.key}",
            )
        return state.credentials

    def expected(self, peer: str) -> Expected:
        """How this peer is known; IdentityError when there is none of this name."""
        try:
            return self._state.expected[peer]
        except KeyError:
            raise IdentityError(f"no peer {peer} is configured") from None

    def bundle(self, peer: str) -> TrustBundle:
        """This peer's authorities; IdentityError when none could ever be read."""
        state = self._state
        self.expected(peer)
        path = state.bundle_of[peer]
        try:
            return state.bundles[path]
        except KeyError:
            raise IdentityError(
                f"peer {peer} has no trust bundle: {path}: {state.problems.get(path, 'it was not read')}",
                mend=f"ask the operator of {peer} for its bundle.pem",
            ) from None

    def material(self, peer: str) -> object:
        """What a connection to this peer is made of; when it is equal, dialling it anew has the same end."""
        state = self._state
        bundle = state.bundles.get(state.bundle_of[peer]) if peer in state.bundle_of else None
        return state.own(), bundle and bundle.pem, state.expected.get(peer)

    def merged_bundle(self) -> bytes:
        """All peers' authorities in PEM, each once, for TLS stacks that know one store only; may be empty.

        Whoever uses it must call `identify` afterwards: in this store one peer's authority passes for any.
        """
        state = self._state
        bundles = [state.bundles[path] for path in state.bundle_of.values() if path in state.bundles]
        unique = dict.fromkeys(certificate for bundle in bundles for certificate in bundle.certificates)
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in unique)

    def identify(self, chain: Sequence[x509.Certificate], now: datetime) -> tuple[str, str]:
        """Return which configured peer presents this chain, and as which identity; else IdentityError.

        The trust domain of its one SPIFFE ID names the peer, else its fingerprint, else a DNS SAN; then that
        peer's own bundle has to agree.
        """
        if not chain:
            raise IdentityError("no certificate was presented", mend="the other side must present its own")
        leaf = chain[0]
        refusal: IdentityError | None = None
        for peer in self._claimed(leaf):
            try:
                return peer, verify_peer(chain, self.bundle(peer), self.expected(peer), now)
            except IdentityError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        raise IdentityError(
            f"the certificate presented is {presented(leaf)}; no configured peer is known by that",
            mend=f"add a peer to the configuration if it should be one (its sha256 is {fingerprint(leaf)})",
        )

    def still_trusts(self, peer: str, chain: Sequence[x509.Certificate], now: datetime) -> bool:
        """Whether a connection that `peer` made with this chain may stand: not once its authority is gone.

        That the leaf has expired since the handshake does not end it (`spiffe.judged_at`).
        """
        try:
            verify_peer(chain, self.bundle(peer), self.expected(peer), judged_at(chain[0], now))
        except IdentityError:
            return False
        return True

    def reload(self) -> bool:
        """Read all files again; True when certificates, bundles or peers are other than before."""
        return self._adopt(self._state.identity, self._state.expected, self._state.bundle_of)

    def configure(self, identity: IdentitySettings, peers: Mapping[str, TrustedPeer]) -> bool:
        """Take over a new configuration and read its files; True when anything changed.

        Raises IdentityError, and changes nothing, when a peer's SPIFFE ID is none.
        """
        expected = {name: Expected.of_peer(peer) for name, peer in peers.items()}
        changed = self._adopt(identity, expected, {name: peer.bundle for name, peer in peers.items()})
        self._reconfigured.set()
        return changed

    async def watch(self, on_change: Callable[[], object]) -> None:
        """Reload on file events, for ever, and call `on_change` after every real change; cancel it to stop.

        It watches folders, not files: renames into place and swapped symbolic links (as the kubelet does it)
        are events of the folder. A sweep a minute is the net where events do not come (network folders).
        """
        async with contextlib.aclosing(self._occasions()) as occasions:
            async for _ in occasions:
                if self.reload():
                    _log.info("certificates reloaded", version=self._version)
                    on_change()

    def unusable(self) -> list[Unusable]:
        """The files that are not usable now: our own, then the peers'."""
        state, own = self._state, self._state.identity
        ours = {"certificate": own.certificate, "key": own.key, "bundle": own.bundle}
        files: list[tuple[str | None, str, Path]] = [
            (None, what, path) for what, path in ours.items() if path is not None
        ]
        files += [(peer, "bundle", path) for peer, path in state.bundle_of.items()]
        return [
            Unusable(
                peer=peer,
                what=what,
                path=path,
                problem=state.problems[path],
                in_force=path in state.bundles if what == "bundle" else state.credentials is not None,
            )
            for peer, what, path in files
            if path in state.problems
        ]

    def findings(self, now: datetime, *, trust_domain: str | None = None) -> list[Finding]:
        """What `hamlet check` should say: about our certificate (`trust_domain`: our mesh's), key and bundles."""
        state = self._state
        findings = list(unusable_findings(self.unusable()))
        own = state.bundles.get(state.identity.bundle) if state.identity.bundle else None
        if state.credentials is not None:
            findings += own_findings(state.credentials, own, trust_domain, now)
        findings += _key_mode_findings(state.identity.key)
        bundles = {peer: state.bundles[path] for peer, path in state.bundle_of.items() if path in state.bundles}
        for peer, bundle in bundles.items():
            findings += bundle_findings(peer, bundle, now)
            findings += wrong_bundle_findings(peer, bundle, state.expected[peer].trust_domain, own)
        return [*findings, *shared_authority_findings(bundles), *same_name_findings(bundles)]

    def _claimed(self, leaf: x509.Certificate) -> list[str]:
        """The peers this leaf may be; whether it is one of them is for their bundles to say."""
        identity = spiffe_id(leaf)
        ours, digest, names = self._state.expected, fingerprint(leaf), dns_names(leaf)
        if identity is not None:
            by_domain = [peer for peer, known in ours.items() if known.trust_domain == identity.trust_domain]
            if by_domain:
                return by_domain
        by_digest = [peer for peer, known in ours.items() if known.fingerprint == digest]
        return by_digest or [peer for peer, known in ours.items() if known.dns_name in names]

    def _adopt(
        self, identity: IdentitySettings, expected: Mapping[str, Expected], bundle_of: Mapping[str, Path]
    ) -> bool:
        before, problems = self._state, dict[Path, str]()
        bundles = dict[Path, TrustBundle]()
        bundled = {*bundle_of.values(), *([identity.bundle] if identity.bundle else [])}
        for path in bundled:
            try:
                bundles[path] = TrustBundle.from_pem(_read(path), source=str(path))
            except IdentityError as error:
                problems[path] = _told(error)
                if path in before.bundles:
                    bundles[path] = before.bundles[path]
        self._state = _State(
            identity=identity,
            expected=expected,
            bundle_of=bundle_of,
            credentials=_read_credentials(identity, problems) or before.credentials,
            bundles=bundles,
            problems=problems,
        )
        for path, problem in problems.items():
            if before.problems.get(path) != problem:
                kept = path in bundles or (path not in bundled and before.credentials is not None)
                event = "certificate file is not usable" + ("; the last good one stays" if kept else "")
                _log.warning(event, path=str(path), error=problem)
        changed = self._state.material() != before.material()
        self._version += changed
        return changed

    def _folders(self) -> set[Path]:
        state = self._state
        own = state.identity
        files = {own.certificate, own.key, *state.bundle_of.values(), *([own.bundle] if own.bundle else [])}
        folders = {folder for file in files for folder in (file.parent, file.resolve().parent)}
        return {folder for folder in folders if folder.is_dir()}

    async def _occasions(self) -> AsyncGenerator[None, None]:
        """When to reload: first at once, then on every event, on a new configuration, and once a minute."""
        while True:
            self._reconfigured.clear()
            yield
            folders = self._folders()
            try:
                events = awatch(
                    *folders,
                    watch_filter=None,
                    debounce=200,
                    step=20,
                    stop_event=self._reconfigured,
                    rust_timeout=int(_SWEEP_SECONDS * 1000),
                    yield_on_timeout=True,
                    recursive=False,
                )
                async with contextlib.aclosing(events):
                    async for _ in events:
                        yield
                        if self._folders() != folders:
                            break
            # A folder gone while we look, or the system's limit of watches (a RuntimeError of the library).
            except (OSError, RuntimeError) as error:
                _log.warning("certificate files are only looked at once a minute", error=str(error))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._reconfigured.wait(), _SWEEP_SECONDS)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"cannot be read: {error.strerror or error}") from error


def _read_credentials(identity: IdentitySettings, problems: dict[Path, str]) -> Credentials | None:
    pems = []
    for path in (identity.certificate, identity.key):
        try:
            pems.append(_read(path))
        except IdentityError as error:
            problems[path] = _told(error)
    if len(pems) < 2:
        return None
    try:
        return Credentials.from_pem(*pems)
    except IdentityError as error:
        problems[identity.certificate] = _told(error)
        return None


def _told(error: IdentityError) -> str:
    return f"{error} ({error.mend})" if error.mend else str(error)


def _key_mode_findings(key: Path) -> list[Finding]:
    try:
        mode = key.stat().st_mode
    except OSError:
        return []  # a problem already
    # A group may read it: that is how the kubelet shares a secret with an fsGroup.
    if not mode & 0o027:
        return []
    return [
        Finding(
            subject="identity",
            severity=Severity.WARNING,
            message=f"the private key {key} has mode {mode & 0o777:04o}: others than its owner can use it",
            mend=f"chmod 600 {key}",
        )
    ]
