"""The dialling side's own TLS: a private Unix socket for gRPC, and behind it one verified connection each.

grpcio's client never looks at a URI SAN and refuses certificates that have nothing else. So gRPC speaks
plaintext HTTP/2 into a socket that only this process may use, and the bytes pass on only over a TLS connection
whose own certificate was judged first. It knows nothing of HTTP/2: pings and flow control run end to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509

from hamlet_core.api import HamletError
from hamlet_core.identity.source import IdentitySource
from hamlet_core.identity.spiffe import IdentityError, verify_peer

_log = structlog.get_logger(__name__)
_CHUNK = 256 * 1024
_FLUSH_SECONDS = 2.0
_GRACE_SECONDS = 0.5
_SHUTDOWN_SECONDS = 0.2  # gRPC servers do not answer a TLS close_notify: waiting for it gains nothing
_LONGEST_SOCKET_PATH = 100  # sun_path has 108 bytes
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


class PeerUnreachable(HamletError):
    """No connection to the peer could be made, or it broke, for a reason other than its identity."""


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    """A verified connection to the peer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    chain: tuple[x509.Certificate, ...]
    identity: str
    tls_version: str


class Tunnel:
    """TLS to one peer for one gRPC channel; see `start`. It belongs to the event loop that started it."""

    def __init__(self, address: str, source: IdentitySource, peer: str, *, deadline: float = 10.0) -> None:
        """Take the peer's `address` (host:port) and configured name.

        `deadline`, in seconds, is for connecting: name, connection and handshake.
        """
        host, _, port = address.rpartition(":")
        self.address = address
        self._host, self._port = host.strip("[]"), int(port)
        self._source = source
        self._peer = peer
        self._deadline = deadline
        self._context: tuple[int, ssl.SSLContext] | None = None
        self._server: asyncio.Server | None = None
        self._directory: Path | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._standing: list[_Connection] = []
        self.last_error: HamletError | None = None
        """Why the latest connection failed or broke; None while it is well. gRPC itself sees a closed socket."""

    @property
    def identity(self) -> str | None:
        """What the peer proved to be on the newest connection that stands; None when none does."""
        return self._standing[-1].identity if self._standing else None

    @property
    def tls_version(self) -> str | None:
        """TLS version of that connection, for example `TLSv1.3`."""
        return self._standing[-1].tls_version if self._standing else None

    async def start(self) -> str:
        """Listen, and return the target to open a gRPC channel to. It dials the peer when gRPC connects."""
        temporary = tempfile.gettempdir()
        if len(os.fsencode(temporary)) > _LONGEST_SOCKET_PATH - len("/hamlet-12345678/s"):
            temporary = "/tmp"  # noqa: S108 - the folder made in it is random and ours alone
        self._directory = Path(tempfile.mkdtemp(prefix="hamlet-", dir=temporary))  # 0700
        path = self._directory / "s"
        self._server = await asyncio.start_unix_server(self._accept, str(path), limit=_CHUNK)
        path.chmod(0o600)
        return f"unix:{path}"

    def recheck(self, now: datetime) -> bool:
        """Close the connections whose peer's authority has gone; True when there were any.

        Call it after a reload.
        """
        revoked = [c for c in self._standing if not self._source.still_trusts(self._peer, c.chain, now)]
        for connection in revoked:
            self.last_error = IdentityError(
                f"{connection.identity} is not trusted any more",
                mend=f"its authority is not in the trust bundle of peer {self._peer} now",
            )
            _log.warning("connection closed", peer=self._peer, reason=str(self.last_error))
            connection.writer.transport.abort()
        return bool(revoked)

    async def close(self) -> None:
        """Close everything and remove the socket. Close the channel first: what it still sends is flushed."""
        if self._server is None:
            return
        self._server.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid, _ = _UCRED.unpack(
            writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        if pid != os.getpid():
            _log.error("a foreign process on our socket was refused", peer=self._peer, pid=pid, uid=uid)
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name=f"tunnel to {self._peer}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer):
            try:
                connection = await self._dial()
            except HamletError as error:
                self._failed(error)
                return
            self._standing.append(connection)
            try:
                async with _closing(connection.writer):
                    await self._relay(connection, reader, writer)
            finally:
                self._standing.remove(connection)

    def _failed(self, error: HamletError) -> None:
        self.last_error = error
        _log.warning(
            "no connection to peer", peer=self._peer, address=self.address, error=str(error), mend=error.mend
        )

    async def _dial(self) -> _Connection:
        """Connect, shake hands, judge; nothing of gRPC's has been sent when this returns or raises."""
        with self._explained("while connecting"):
            async with asyncio.timeout(self._deadline):
                context = self._tls()
                # An address sends no SNI (RFC 6066, section 3); Python's ssl sees to that.
                reader, writer = await asyncio.open_connection(
                    self._host,
                    self._port,
                    ssl=context,
                    server_hostname=self._host,
                    ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
                    limit=_CHUNK,
                )
        try:
            return self._judged(reader, writer)
        except BaseException:
            writer.transport.abort()
            raise

    def _judged(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Connection:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != "h2":
            raise PeerUnreachable(
                f"{self.address} does not speak HTTP/2 (ALPN h2)", mend="is this the address of the peer's agent?"
            )
        chain = _presented_chain(tls)
        bundle, expected = self._source.bundle(self._peer), self._source.expected(self._peer)
        identity = verify_peer(chain, bundle, expected, datetime.now(UTC))
        return _Connection(reader, writer, chain, identity, tls.version() or "unknown")

    def _tls(self) -> ssl.SSLContext:
        """A context of this peer's bundle alone and our certificate, as they are now."""
        version = self._source.version
        if self._context is None or self._context[0] != version:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = False  # the identity is `verify_peer`'s business
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority need not be self-signed
            context.load_verify_locations(cadata=self._source.bundle(self._peer).pem.decode("ascii"))
            context.set_alpn_protocols(["h2"])
            own = self._source.credentials
            _load_pair(context, own.certificate_pem, own.key_pem)
            self._context = version, context
        return self._context[1]

    async def _relay(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass bytes on in both directions until either side ends.

        TLS over asyncio has no half-closed state, and HTTP/2 needs none: the end of one direction is, once
        what was read has been written, the end of both.
        """
        outward = asyncio.create_task(_pump(reader, connection.writer))
        inward = asyncio.create_task(self._pump_in(connection, writer))
        try:
            done, _ = await asyncio.wait((outward, inward), return_when=asyncio.FIRST_COMPLETED)
            if inward not in done and outward.exception() is not None:
                # A broken connection fails both; the inward one knows what to say about it.
                await asyncio.wait((inward,), timeout=_GRACE_SECONDS)
        finally:
            for task in (outward, inward):
                task.cancel()
            await asyncio.gather(outward, inward, return_exceptions=True)

    async def _pump_in(self, connection: _Connection, writer: asyncio.StreamWriter) -> None:
        try:
            # In TLS 1.3 the client is done before the server has seen its certificate: a refusal comes here.
            with self._explained("before its first byte: it probably refused our certificate"):
                first = await connection.reader.read(_CHUNK)
                if not first:
                    raise ConnectionResetError
            self.last_error = None
            writer.write(first)
            await writer.drain()
            with self._explained("on a standing connection"):
                await _pump(connection.reader, writer)
        except HamletError as error:
            # After an abort of ours (`recheck`) the reason is known already.
            if self._source.still_trusts(self._peer, connection.chain, datetime.now(UTC)):
                self._failed(error)

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn what asyncio, ssl and the resolver raise into an error that names the peer and the mend."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise IdentityError(
                f"the certificate that {self.address} presented does not verify against the trust bundle of peer"
                f" {self._peer}: {error.verify_message}",
                mend="compare bundles with the peer's operator",
            ) from error
        except ssl.SSLError as error:
            raise _explain_tls(error, self.address) from error
        except TimeoutError as error:
            raise PeerUnreachable(
                f"{self.address} did not answer in time {doing}", mend="is it up, and is no firewall in between?"
            ) from error
        except socket.gaierror as error:
            raise PeerUnreachable(
                f"the name {self._host!r} cannot be resolved: {error.strerror}", mend="check the peer's address"
            ) from error
        except ConnectionResetError as error:
            # A refusal loses its TLS alert when the refusing side closes with something of ours unread.
            raise PeerUnreachable(
                f"{self.address} closed the connection {doing}",
                mend="it may refuse our certificate or our TLS: has its operator our current bundle.pem?",
            ) from error
        except ConnectionRefusedError as error:
            raise PeerUnreachable(
                f"nothing listens at {self.address}", mend="is the peer's agent up, and its address right?"
            ) from error
        except (OSError, UnicodeError) as error:
            errno = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(errno) if errno else str(error) or type(error).__name__
            raise PeerUnreachable(f"{self.address} failed {doing}: {reason}") from error


def _explain_tls(error: ssl.SSLError, address: str) -> HamletError:
    reason = error.reason or str(error)
    # OpenSSL names an alert by the version that defined it; whoever sent it has refused us.
    if "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")):
        return IdentityError(
            f"{address} refused our certificate ({reason})", mend="give its operator our current bundle.pem"
        )
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}:
        return PeerUnreachable(f"{address} answers, but not in TLS ({reason})", mend="check the peer's address")
    return PeerUnreachable(f"TLS with {address} failed: {reason}")


def _presented_chain(tls: ssl.SSLObject) -> tuple[x509.Certificate, ...]:
    """What the peer presented on this connection, leaf first; intermediates matter."""
    public: Any = getattr(tls, "get_unverified_chain", None)  # Python 3.13
    if public is not None:
        encoded = [bytes(certificate) for certificate in public()]
    else:
        import _ssl

        private: Any = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - all that 3.11 and 3.12 have
        encoded = [
            certificate.public_bytes(_ssl.ENCODING_DER) for certificate in private.get_unverified_chain() or ()
        ]
    return tuple(x509.load_der_x509_certificate(certificate) for certificate in encoded)


def _load_pair(context: ssl.SSLContext, certificate_pem: bytes, key_pem: bytes) -> None:
    """Load a pair that is in memory: Python's ssl reads files only, and the files may be in mid-rotation."""
    descriptor = os.memfd_create("hamlet-identity", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(certificate_pem + b"\n" + key_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=b"")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()  # a slow receiver stops the reading


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close at the end: flush what was written, but not for ever; after a cancellation at once."""
    try:
        yield
    except BaseException:
        writer.transport.abort()
        raise
    finally:
        writer.close()
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await writer.wait_closed()
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError
            writer.transport.abort()
