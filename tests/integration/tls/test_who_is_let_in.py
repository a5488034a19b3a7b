"""Each side judges the other by its own bundle for that peer, on the connection that carries the calls."""

import grpc
import pytest

from hamlet_core.api.testing.minting import HOUR, NOW, Mint, rsa_key
from hamlet_core.identity.spiffe import IdentityError, fingerprint

UNAUTHENTICATED, UNAVAILABLE = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE
WEST_ID, EAST_ID = "spiffe://west.example/hamlet/agent", "spiffe://east.example/hamlet/agent"


@pytest.fixture(autouse=True)
def acquainted(west, east):
    """East knows west and north, west knows east and north: north is a real mesh too, with its own authority."""
    north = Mint("north authority")
    west.trust("east", east.authority)
    west.trust("north", north)
    east.trust("west", west.authority)
    east.trust("north", north)
    return north


async def test_two_meshes_know_each_other(west, east, serve, dial):
    server = await serve(east)
    dialled = await dial(west, "east", server.address)
    assert await dialled.ask() == f"west {WEST_ID}"
    assert dialled.tunnel.identity == EAST_ID
    assert dialled.tunnel.tls_version == "TLSv1.3"
    assert dialled.tunnel.last_error is None
    assert server.refusals == []


async def test_the_caller_is_known_to_every_kind_of_handler(west, east, serve, dial):
    server = await serve(east)
    channel = (await dial(west, "east", server.address)).channel
    stream = channel.stream_stream("/test.Echo/Stream", None, None)()
    await stream.write(b"hello")
    assert await stream.read() == b"hello"
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    counted = [answer async for answer in channel.unary_stream("/test.Echo/Count", None, None)(b"")]
    assert counted == [b"west 0", b"west 1", b"west 2"]
    collect = channel.stream_unary("/test.Echo/Collect", None, None)
    assert await collect(iter([b"a", b"b"])) == b"a,b west"


async def test_a_method_that_does_not_exist_is_unimplemented(west, east, serve, dial):
    server = await serve(east)
    channel = (await dial(west, "east", server.address)).channel
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await channel.unary_unary("/test.Echo/Nothing", None, None)(b"")
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("shape", ["intermediate", "rsa", "no key identifiers"])
async def test_authorities_of_other_makes_work_in_both_directions(west, east, serve, dial, shape):
    for mesh, other, uri in ((west, east, WEST_ID), (east, west, EAST_ID)):
        root = Mint(
            f"{mesh.name} root",
            key=rsa_key() if shape == "rsa" else None,
            key_identifiers=shape != "no key identifiers",
        )
        issuing = Mint(f"{mesh.name} issuing", under=root) if shape == "intermediate" else root
        mesh.present(issuing.leaf(uri, key=rsa_key() if shape == "rsa" else None))
        other.trust(mesh.name, root)
    server = await serve(east)
    dialled = await dial(west, "east", server.address)
    assert await dialled.ask() == f"west {WEST_ID}"
    assert dialled.tunnel.identity == EAST_ID


@pytest.mark.parametrize("caller", ["west", "north"])
async def test_authorities_of_the_same_name_are_told_apart(west, east, serve, dial, caller):
    """Every Istio calls its own authority O=cluster.local: the merged store of the server holds several such."""
    authorities = {name: Mint("cluster.local") for name in ("west", "north")}
    for name, authority in authorities.items():
        east.trust(name, authority)
    west.present(authorities[caller].leaf(f"spiffe://{caller}.example/a"))
    server = await serve(east)
    assert await (await dial(west, "east", server.address)).ask() == f"{caller} spiffe://{caller}.example/a"


class TestTheServerRefuses:
    """What reaches the interceptor: TLS let it in, because some peer's authority vouched for it."""

    @pytest.mark.parametrize(
        ("uris", "common_name"),
        [
            (["spiffe://north.example/hamlet/agent"], ""),
            ([EAST_ID], ""),
            (["spiffe://elsewhere.example/a"], ""),
            ([WEST_ID, "spiffe://west.example/other"], ""),
            ([WEST_ID, "spiffe://north.example/hamlet/agent"], ""),
            (["https://west.example/hamlet/agent"], ""),
            (["spiffe://west.example"], ""),
            ([], WEST_ID),
        ],
        ids=["another peer's", "our own", "nobody's", "two of one", "two peers'", "no SPIFFE", "no path", "CN only"],
    )
    async def test_an_identity_that_the_peer_s_own_authority_may_not_give(
        self, west, east, serve, dial, refused, uris, common_name
    ):
        west.present(west.authority.leaf(*uris, common_name=common_name))
        server = await serve(east)
        code, details = await refused(await dial(west, "east", server.address))
        assert code is UNAUTHENTICATED
        assert (uris or [common_name])[0] in details
        assert str(east.folder) not in details
        assert server.refusals == [details]

    async def test_a_stream_as_well_as_a_call(self, west, east, serve, dial):
        west.present(west.authority.leaf("spiffe://north.example/hamlet/agent"))
        server = await serve(east)
        stream = (await dial(west, "east", server.address)).stream()
        assert await stream.code() is UNAUTHENTICATED
        assert server.ended == [], "the handler never ran"

    async def test_another_id_than_the_one_configured(self, west, east, serve, dial, refused):
        east.trust("west", west.authority, trust_domain="west.example", spiffe_id="spiffe://west.example/gateway")
        server = await serve(east)
        code, details = await refused(await dial(west, "east", server.address))
        assert code is UNAUTHENTICATED
        assert "spiffe://west.example/gateway" in details

    async def test_an_authority_that_nobody_vouches_for(self, west, east, serve, dial, refused):
        """TLS itself refuses: nothing reaches the interceptor, and the dialling side knows why."""
        west.present(Mint("mallory").leaf(WEST_ID))
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        assert (await refused(dialled))[0] is UNAVAILABLE
        assert "refused our certificate" in str(dialled.tunnel.last_error)
        assert server.refusals == []

    async def test_everyone_when_it_has_no_peers(self, west, east, serve, dial, refused):
        east.peers.clear()
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        assert (await refused(dialled))[0] is UNAVAILABLE
        assert dialled.tunnel.last_error is not None

    @pytest.mark.parametrize("life", [(NOW - 2 * HOUR, NOW - HOUR), (NOW + HOUR, NOW + 2 * HOUR)])
    async def test_a_certificate_out_of_its_time(self, west, east, serve, dial, refused, life):
        west.present(west.authority.leaf(WEST_ID, start=life[0], end=life[1]))
        server = await serve(east)
        assert (await refused(await dial(west, "east", server.address)))[0] in {UNAVAILABLE, UNAUTHENTICATED}


class TestTheDialingSideRefuses:
    """Before a byte of gRPC: the server's handler and its interceptor see nothing."""

    @pytest.mark.parametrize(
        ("uris", "shape"),
        [
            (["spiffe://north.example/hamlet/agent"], {}),
            ([WEST_ID], {}),
            ([EAST_ID, "spiffe://east.example/other"], {}),
            (["spiffe://east.example.evil.example/a"], {"dns": ["127.0.0.1", "localhost"]}),
            ([], {"dns": ["localhost"], "common_name": EAST_ID}),
            ([], {"common_name": EAST_ID}),
        ],
        ids=["another peer's", "our own", "two", "another with our DNS name", "CN and DNS", "CN only"],
    )
    async def test_an_identity_that_is_not_the_peer_s(self, west, east, serve, dial, refused, uris, shape):
        east.present(east.authority.leaf(*uris, **shape))
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        assert (await refused(dialled))[0] is UNAVAILABLE
        assert isinstance(dialled.tunnel.last_error, IdentityError)
        assert "expected is one SPIFFE ID of trust domain east.example" in str(dialled.tunnel.last_error)
        assert dialled.tunnel.identity is None
        assert server.refusals == []
        assert server.ended == []

    async def test_the_peer_s_identity_from_another_peer_s_authority(
        self, west, east, serve, dial, refused, acquainted
    ):
        """North's authority, which west trusts for north, minted an identity of east."""
        east.present(acquainted.leaf(EAST_ID))
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        assert (await refused(dialled))[0] is UNAVAILABLE
        assert isinstance(dialled.tunnel.last_error, IdentityError)
        assert "does not verify against the trust bundle of peer east" in str(dialled.tunnel.last_error)

    async def test_another_id_than_the_one_configured(self, west, east, serve, dial, refused):
        west.trust("east", east.authority, trust_domain="east.example", spiffe_id="spiffe://east.example/gateway")
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        await refused(dialled)
        assert "spiffe://east.example/gateway" in str(dialled.tunnel.last_error)

    async def test_a_certificate_that_expired(self, west, east, serve, dial, refused):
        east.present(east.authority.leaf(EAST_ID, start=NOW - 2 * HOUR, end=NOW - HOUR))
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        await refused(dialled)
        assert "expired" in str(dialled.tunnel.last_error)


class TestPeersWithoutSpiffe:
    @pytest.mark.parametrize(("presented", "accepted"), [("gw.east.example", True), ("other.east.example", False)])
    async def test_a_server_pinned_by_dns_name(self, west, east, serve, dial, refused, presented, accepted):
        west.trust("east", east.authority, dns_name="gw.east.example")
        east.present(east.authority.leaf(dns=[presented]))
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        if accepted:
            assert await dialled.ask() == f"west {WEST_ID}"
            assert dialled.tunnel.identity == "dns:gw.east.example"
        else:
            await refused(dialled)
            assert isinstance(dialled.tunnel.last_error, IdentityError)

    @pytest.mark.parametrize("accepted", [True, False])
    async def test_a_server_pinned_by_fingerprint(self, west, east, serve, dial, refused, accepted):
        pinned, other = (east.authority.leaf(dns=["gw.east.example"]) for _ in range(2))
        west.trust("east", east.authority, fingerprint=fingerprint(pinned.certificate))
        east.present(pinned if accepted else other)
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        if accepted:
            assert await dialled.ask() == f"west {WEST_ID}"
        else:
            await refused(dialled)
            assert isinstance(dialled.tunnel.last_error, IdentityError)

    @pytest.mark.parametrize("accepted", [True, False])
    async def test_a_client_pinned_by_dns_name(self, west, east, serve, dial, refused, accepted, acquainted):
        east.trust("west", west.authority, dns_name="gw.west.example")
        west.present((west.authority if accepted else acquainted).leaf(dns=["gw.west.example"]))
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        if accepted:
            assert await dialled.ask() == "west dns:gw.west.example"
        else:
            assert (await refused(dialled))[0] is UNAUTHENTICATED

    @pytest.mark.parametrize("accepted", [True, False])
    async def test_a_client_pinned_by_fingerprint(self, west, east, serve, dial, refused, accepted):
        pinned, other = (west.authority.leaf(common_name="agent") for _ in range(2))
        east.trust("west", west.authority, fingerprint=fingerprint(pinned.certificate))
        west.present(pinned if accepted else other)
        server = await serve(east)
        dialled = await dial(west, "east", server.address)
        if accepted:
            assert await dialled.ask() == f"west sha256:{fingerprint(pinned.certificate)}"
        else:
            assert (await refused(dialled))[0] is UNAUTHENTICATED

    async def test_a_self_signed_pair_pinned_on_both_sides(self, west, east, serve, dial):
        for mesh, other in ((west, east), (east, west)):
            own = Mint(f"{mesh.name} alone")
            certificate, key = mesh.certificate, mesh.key
            from hamlet_core.api.testing.minting import Leaf

            mesh.present(Leaf(chain=(own.certificate,), key=own.key))
            assert (mesh.certificate, mesh.key) == (certificate, key)
            other.trust(mesh.name, own, fingerprint=fingerprint(own.certificate))
        server = await serve(east)
        assert (await (await dial(west, "east", server.address)).ask()).startswith("west sha256:")
