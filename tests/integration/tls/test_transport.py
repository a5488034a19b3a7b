"""The wire below gRPC: versions of TLS, who may use the local socket, back-pressure, and errors that explain."""

import asyncio
import os
import ssl
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import grpc
import pytest

from hamlet_core.api import HamletError
from hamlet_core.api.testing.minting import Mint
from hamlet_core.identity.spiffe import IdentityError
from hamlet_core.rpc.channel import PeerUnreachable, Tunnel, client_options, server_options
from hamlet_core.rpc.tunnel import _explain_tls
from tests.support.ports import free_port

WEST_ID = "spiffe://west.example/hamlet/agent"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
HANDSHAKE_FAILED = (ssl.SSLError, ConnectionResetError)
"""asyncio may see the connection closed before it has read the alert."""


@pytest.fixture(autouse=True)
def acquainted(west, east):
    west.trust("east", east.authority)
    east.trust("west", west.authority)


def server_context(mesh, authority=None):
    """East's TLS as another vendor may have it: Python's, with a client certificate required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mesh.certificate, mesh.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    return context


def client_context(mesh):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(mesh.certificate, mesh.key)
    context.set_alpn_protocols(["h2"])
    return context


def only(context, version):
    """Speak this version alone, as an old stack would: OpenSSL has it only without a security level."""
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is as old as that
        context.minimum_version = version
        context.maximum_version = version
    return context


async def handshake(address, context):
    """Shake hands and wait for the server's first bytes; what goes wrong is raised."""
    host, port = address.split(":")
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        try:
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            if not await reader.read(9):
                raise ConnectionResetError("closed without a byte")
            return writer.get_extra_info("ssl_object").version()
        finally:
            writer.transport.abort()


@pytest.fixture
def listen(cleanup):
    """A server that is none of ours: `handle` gets every connection; returns its address."""

    async def start(handle, context=None):
        tasks = set()

        def accepted(reader, writer):
            async def run():
                try:
                    await handle(reader, writer)
                except (OSError, asyncio.IncompleteReadError):
                    pass
                finally:
                    writer.transport.abort()

            task = asyncio.create_task(run())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)

        async def stop():
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        cleanup.push_async_callback(stop)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    return start


async def echo_bytes(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def local(target):
    """Connect to the tunnel's local side from this process, as gRPC does."""
    return await asyncio.open_unix_connection(target.removeprefix("unix:"))


def exists(path):
    return path.exists()


def modes(*paths):
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


class TestVersionsOfTls:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_the_server_speaks(self, west, east, serve, version):
        server = await serve(east)
        assert await handshake(server.address, only(client_context(west), version)) == version.name.replace("_", ".")

    async def test_the_server_refuses_1_1(self, west, east, serve):
        server = await serve(east)
        with pytest.raises(HANDSHAKE_FAILED):
            await handshake(server.address, only(client_context(west), ssl.TLSVersion.TLSv1_1))

    async def test_the_server_requires_a_client_certificate(self, west, east, serve):
        server = await serve(east)
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
        nobody.set_alpn_protocols(["h2"])
        with pytest.raises(HANDSHAKE_FAILED):
            await handshake(server.address, nobody)
        assert server.refusals == []

    async def test_a_tunnel_speaks_1_2_where_a_peer_has_nothing_newer(self, west, east, dial, listen):
        context = only(server_context(east, west.authority), ssl.TLSVersion.TLSv1_2)
        dialled = await dial(west, "east", await listen(echo_bytes, context))
        reader, writer = await local(dialled.target)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert dialled.tunnel.tls_version == "TLSv1.2"
        writer.close()
        await writer.wait_closed()

    async def test_a_tunnel_refuses_1_1(self, west, east, dial, listen, refused):
        context = only(server_context(east, west.authority), ssl.TLSVersion.TLSv1_1)
        dialled = await dial(west, "east", await listen(echo_bytes, context))
        assert (await refused(dialled))[0] is UNAVAILABLE
        assert isinstance(dialled.tunnel.last_error, PeerUnreachable)
        assert dialled.tunnel.identity is None

    async def test_plaintext_clients_are_refused(self, east, serve):
        server = await serve(east)
        async with grpc.aio.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary("/test.Echo/Ask", None, None)(b"", timeout=20)
        assert failure.value.code() is UNAVAILABLE
        assert server.refusals == []


class TestErrorsThatExplain:
    @pytest.fixture
    def fails(self, west, dial, refused):
        async def expect(address, **options):
            dialled = await dial(west, "east", address, **options)
            assert (await refused(dialled))[0] is UNAVAILABLE
            error = dialled.tunnel.last_error
            assert isinstance(error, HamletError)
            assert address.rpartition(":")[0] in str(error), "the message names the address"
            return error

        return expect

    async def test_nobody_listens(self, fails):
        error = await fails(f"127.0.0.1:{free_port()}")
        assert isinstance(error, PeerUnreachable)
        assert isinstance(error.__cause__, ConnectionRefusedError)

    async def test_a_name_that_does_not_exist(self, fails):
        assert "cannot be resolved" in str(await fails("agent.east.invalid:8008"))

    async def test_a_name_that_is_none(self, fails):
        assert isinstance(await fails("a" * 70 + ".example:8008"), PeerUnreachable)

    async def test_a_server_that_says_nothing(self, fails, listen):
        async def silent(reader, _writer):
            await reader.read()
            await asyncio.Event().wait()

        assert "did not answer in time" in str(await fails(await listen(silent), deadline=0.3))

    async def test_a_server_without_tls(self, fails, listen):
        async def plain(reader, writer):
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

        assert "not in TLS" in str(await fails(await listen(plain)))

    async def test_a_server_without_http_2(self, west, east, fails, listen):
        context = server_context(east, west.authority)
        context.set_alpn_protocols(["http/1.1"])
        assert "HTTP/2" in str(await fails(await listen(echo_bytes, context)))

    async def test_a_server_that_knows_another_authority_than_ours(self, east, fails, listen):
        error = await fails(await listen(echo_bytes, server_context(east, Mint("another"))))
        assert "bundle.pem" in error.mend, "whether or not the alert came through"

    async def test_a_server_that_closes_without_a_word(self, west, east, fails, listen):
        async def close(_reader, _writer):
            return

        error = await fails(await listen(close, server_context(east, west.authority)))
        assert isinstance(error, PeerUnreachable)

    async def test_a_certificate_or_bundle_of_ours_that_is_missing(self, west, east, serve, dial, refused):
        server = await serve(east)
        west.key.unlink()
        dialled = await dial(west, "east", server.address)
        await refused(dialled)
        assert "we have no certificate" in str(dialled.tunnel.last_error)


@pytest.mark.parametrize(
    ("reason", "kind", "message"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", IdentityError, "refused our certificate"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", IdentityError, "refused our certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", IdentityError, "refused our certificate"),
        ("TLSV1_ALERT_ACCESS_DENIED", IdentityError, "refused our certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", PeerUnreachable, "TLSV1_ALERT_PROTOCOL_VERSION"),
        ("WRONG_VERSION_NUMBER", PeerUnreachable, "not in TLS"),
        (None, PeerUnreachable, "something"),
    ],
)
def test_an_alert_says_whose_fault_it_is(reason, kind, message):
    error = ssl.SSLError(1, "something")
    error.reason = reason
    explained = _explain_tls(error, "gw.east.example:8008")
    assert type(explained) is kind
    assert message in str(explained)
    assert "gw.east.example:8008" in str(explained)


class TestTheLocalSocket:
    async def test_only_we_can_reach_it(self, west, dial):
        dialled = await dial(west, "east", "127.0.0.1:1")
        path = Path(dialled.target.removeprefix("unix:"))
        assert modes(path, path.parent) == [0o600, 0o700]

    async def test_a_foreign_process_is_refused_and_nothing_is_dialled(self, west, east, dial, listen):
        dials = []

        async def count(reader, writer):
            dials.append(writer)
            await echo_bytes(reader, writer)

        dialled = await dial(west, "east", await listen(count, server_context(east, west.authority)))
        path = dialled.target.removeprefix("unix:")
        script = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])\n"
            "try:\n    s.sendall(b'hello'); print(s.recv(5))\n"
            "except OSError as error:\n    print(type(error).__name__)\n"
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        output, _ = await child.communicate()
        assert output.strip() in {b"b''", b"ConnectionResetError", b"BrokenPipeError"}
        assert dials == []
        reader, writer = await local(dialled.target)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello", "the same bytes from this process pass"
        assert len(dials) == 1
        writer.close()
        await writer.wait_closed()

    async def test_closing_leaves_nothing_behind(self, west, east, serve, dial):
        server = await serve(east)
        before = asyncio.all_tasks()
        dialled = await dial(west, "east", server.address)
        stream = dialled.stream()
        await stream.write(b"a")
        assert await stream.read() == b"a"
        await dialled.channel.close()
        await dialled.tunnel.close()
        assert not exists(Path(dialled.target.removeprefix("unix:")).parent)
        assert not {task for task in asyncio.all_tasks() - before if "tunnel" in task.get_name()}
        await dialled.tunnel.close()

    async def test_closing_under_a_standing_stream_ends_it(self, west, east, serve, dial, until):
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        stream = dialled.stream()
        await stream.write(b"a")
        assert await stream.read() == b"a"
        await dialled.tunnel.close()
        async with asyncio.timeout(20):
            assert await stream.code() is UNAVAILABLE
        await until(lambda: not server.interceptor._standing)

    async def test_a_long_temporary_folder_still_gives_a_short_socket(self, west, tmp_path, monkeypatch):
        deep = tmp_path / ("d" * 100)
        deep.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(deep))
        tunnel = Tunnel("127.0.0.1:1", west.source(), "east")
        target = await tunnel.start()
        assert len(target) < 100
        await tunnel.close()


class TestTheBytes:
    @pytest.fixture(autouse=True)
    def time_to_flush(self, monkeypatch):
        """What was written is not cut off because the machine stood still."""
        monkeypatch.setattr("hamlet_core.rpc.tunnel._FLUSH_SECONDS", 30.0)

    async def test_both_ways_at_once_unchanged(self, west, east, dial, listen):
        dialled = await dial(west, "east", await listen(echo_bytes, server_context(east, west.authority)))
        reader, writer = await local(dialled.target)
        data = os.urandom(8 * 1024 * 1024)

        async def send():
            for start in range(0, len(data), 100_000):
                writer.write(data[start : start + 100_000])
                await writer.drain()

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(send())
            received = await reader.readexactly(len(data))
        assert received == data
        writer.close()
        await writer.wait_closed()

    async def test_a_peer_that_does_not_read_stops_the_writer(self, west, east, dial, listen):
        release = asyncio.Event()

        async def slow(reader, writer):
            writer.transport.pause_reading()
            await release.wait()
            writer.transport.resume_reading()
            writer.write(str(len(await reader.readexactly(64 * 1024 * 1024))).encode())
            await writer.drain()

        dialled = await dial(west, "east", await listen(slow, server_context(east, west.authority)))
        _, writer = await local(dialled.target)
        sent, chunk = 0, bytes(256 * 1024)
        while sent < 64 * 1024 * 1024:
            writer.write(chunk)
            try:
                async with asyncio.timeout(2):
                    await writer.drain()
            except TimeoutError:
                break
            sent += len(chunk)
        assert sent < 32 * 1024 * 1024, "what the peer does not take is not kept in memory"
        writer.transport.abort()
        release.set()

    async def test_what_was_written_before_the_end_arrives(self, west, east, dial, listen):
        received = asyncio.get_running_loop().create_future()

        async def collect(reader, _writer):
            received.set_result(await reader.read(-1))

        dialled = await dial(west, "east", await listen(collect, server_context(east, west.authority)))
        _, writer = await local(dialled.target)
        writer.write(b"x" * 1_000_000)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(20):
            assert len(await received) == 1_000_000

    async def test_what_the_peer_wrote_before_it_closed_arrives(self, west, east, dial, listen):
        async def give(_reader, writer):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        dialled = await dial(west, "east", await listen(give, server_context(east, west.authority)))
        reader, writer = await local(dialled.target)
        async with asyncio.timeout(20):
            assert len(await reader.read(-1)) == 1_000_000
        writer.close()
        await writer.wait_closed()

    @pytest.mark.parametrize(("host", "sni"), [("localhost", "localhost"), ("127.0.0.1", None)])
    async def test_a_name_is_sent_as_sni_and_an_address_is_not(self, west, east, dial, listen, host, sni):
        seen = []
        context = server_context(east, west.authority)
        context.sni_callback = lambda _socket, name, _context: seen.append(name)
        port = (await listen(echo_bytes, context)).split(":")[1]
        dialled = await dial(west, "east", f"{host}:{port}")
        reader, writer = await local(dialled.target)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        assert seen == [sni]
        writer.close()
        await writer.wait_closed()


def test_everything_works_on_uvloop(west, east):
    """The loop that the agent uses where there is one: its sockets and TLS are not asyncio's."""
    uvloop = pytest.importorskip("uvloop")
    from tests.integration.tls import conftest as support

    async def scenario():
        async with support._serving(east.source()) as server:
            source = west.source()
            tunnel = Tunnel(server.address, source, "east")
            target = await tunnel.start()
            async with grpc.aio.insecure_channel(target, options=client_options(ping=True)) as channel:
                stream = channel.stream_stream(support.ECHO, None, None)()
                await stream.write(b"a" * 3_000_000)
                assert len(await stream.read()) == 3_000_000
                assert tunnel.identity == "spiffe://east.example/hamlet/agent"
                west.trust("east", Mint("another"))
                source.reload()
                from datetime import UTC, datetime

                assert tunnel.recheck(datetime.now(UTC))
                assert await stream.code() is UNAVAILABLE
            await tunnel.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 60))


def test_pings_go_only_where_they_are_welcome():
    pinging, quiet = dict(client_options(ping=True)), dict(client_options(ping=False))
    assert pinging["grpc.keepalive_time_ms"] == 10_000
    assert pinging["grpc.http2.ping_timeout_ms"] == 5_000
    assert pinging["grpc.http2.max_pings_without_data"] == 0
    assert not {key for key in quiet if "ping" in key or "keepalive" in key}
    assert quiet["grpc.max_receive_message_length"] == 16 * 1024 * 1024
    assert quiet["grpc.enable_http_proxy"] == 0
    server = dict(server_options())
    assert server["grpc.http2.min_ping_interval_without_data_ms"] <= pinging["grpc.keepalive_time_ms"]
    assert server["grpc.keepalive_time_ms"] + server["grpc.http2.ping_timeout_ms"] <= 15_000
