import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from cryptography import x509

from hamlet_core.api import Severity
from hamlet_core.api.testing.minting import HOUR, NOW, Mint
from hamlet_core.config.model import Identity, Peer
from hamlet_core.identity import source as source_module
from hamlet_core.identity.source import IdentitySource
from hamlet_core.identity.spiffe import IdentityError, fingerprint

WEST, EAST, NORTH = Mint("west"), Mint("east"), Mint("north")
EAST_ID = "spiffe://east.example/hamlet/agent"


@dataclass
class Files:
    """West's files: its own pair and the bundles of its peers."""

    folder: Path
    peers: dict[str, Peer] = field(default_factory=dict)

    def own(self, leaf=None):
        (leaf or WEST.leaf("spiffe://west.example/hamlet/agent")).write(self.folder)

    def peer(self, name, authority, **known):
        path = self.folder / f"{name}.pem"
        path.write_bytes(authority.pem)
        self.peers[name] = Peer(bundle=path, **(known or {"trust_domain": f"{name}.example"}))

    @property
    def identity(self):
        return Identity(certificate=self.folder / "agent.crt", key=self.folder / "agent.key")

    def source(self):
        return IdentitySource(self.identity, self.peers)


@pytest.fixture
def files(tmp_path):
    made = Files(tmp_path)
    made.own()
    made.peer("east", EAST)
    made.peer("north", NORTH)
    return made


def test_everything_is_read_at_once(files):
    source = files.source()
    assert str(source.credentials.spiffe_id) == "spiffe://west.example/hamlet/agent"
    assert source.bundle("east").certificates == (EAST.certificate,)
    assert source.expected("east").trust_domain == "east.example"
    assert source.merged_bundle() == EAST.pem + NORTH.pem
    assert source.problems == {}
    assert not source.reload()


def test_a_key_is_never_shown(files):
    shown = repr(files.source().credentials)
    assert "PRIVATE" not in shown
    assert (files.folder / "agent.key").read_text().splitlines()[1] not in shown


def test_the_merged_bundle_holds_an_authority_once_and_may_be_empty(files):
    files.peer("south", EAST)
    assert files.source().merged_bundle().count(b"BEGIN CERTIFICATE") == 2
    files.peers.clear()
    assert files.source().merged_bundle() == b""


@pytest.mark.parametrize(
    ("authority", "uri", "peer"),
    [
        (EAST, EAST_ID, "east"),
        (NORTH, "spiffe://north.example/x", "north"),
        (NORTH, EAST_ID, None),
        (EAST, "spiffe://north.example/x", None),
        (EAST, "spiffe://elsewhere.example/x", None),
        (WEST, "spiffe://west.example/hamlet/agent", None),
    ],
)
def test_a_peer_is_who_its_trust_domain_says_and_its_own_bundle_confirms(files, authority, uri, peer):
    source, chain = files.source(), authority.leaf(uri).chain
    if peer:
        assert source.identify(chain, NOW) == (peer, uri)
    else:
        with pytest.raises(IdentityError, match=uri):
            source.identify(chain, NOW)


def test_a_peer_without_spiffe_is_found_by_fingerprint_or_dns_name(files):
    vendor = Mint("vendor")
    pinned, named = vendor.leaf(common_name="pinned"), vendor.leaf(dns=["gw.vendor.example"])
    files.peer("pinned", vendor, fingerprint=fingerprint(pinned.certificate))
    files.peer("named", vendor, dns_name="gw.vendor.example")
    source = files.source()
    assert source.identify(pinned.chain, NOW)[0] == "pinned"
    assert source.identify(named.chain, NOW) == ("named", "dns:gw.vendor.example")
    with pytest.raises(IdentityError, match="does not verify"):
        source.identify(EAST.leaf(dns=["gw.vendor.example"]).chain, NOW)


def test_one_dns_name_for_two_peers_goes_to_the_one_whose_authority_signed(files):
    old, new = Mint("old vendor"), Mint("new vendor")
    files.peer("old", old, dns_name="gw.vendor.example")
    files.peer("new", new, dns_name="gw.vendor.example")
    source = files.source()
    assert source.identify(new.leaf(dns=["gw.vendor.example"]).chain, NOW)[0] == "new"
    assert source.identify(old.leaf(dns=["gw.vendor.example"]).chain, NOW)[0] == "old"


@pytest.mark.parametrize("uris", [(), (EAST_ID, "spiffe://north.example/x"), ("https://east.example",)])
def test_without_exactly_one_spiffe_id_nobody_is_known(files, uris):
    leaf = EAST.leaf(*uris, common_name=EAST_ID)
    with pytest.raises(IdentityError, match="no configured peer"):
        files.source().identify(leaf.chain, NOW)


def test_no_certificate_is_nobody(files):
    with pytest.raises(IdentityError, match="no certificate"):
        files.source().identify((), NOW)


def test_unknown_peers_and_missing_bundles_are_said_so(files):
    (files.folder / "north.pem").unlink()
    source = files.source()
    with pytest.raises(IdentityError, match="no peer south"):
        source.bundle("south")
    with pytest.raises(IdentityError, match="peer north has no trust bundle") as refused:
        source.bundle("north")
    assert "cannot be read" in str(refused.value)
    assert refused.value.mend == "ask the operator of north for its bundle.pem"
    with pytest.raises(IdentityError, match="north has no trust bundle"):
        source.identify(NORTH.leaf("spiffe://north.example/x").chain, NOW)
    assert source.identify(EAST.leaf(EAST_ID).chain, NOW)[0] == "east", "one peer's fault is not another's"


def test_without_a_certificate_there_are_no_credentials_and_the_reason_is_told(files):
    (files.folder / "agent.key").unlink()
    source = files.source()
    with pytest.raises(IdentityError, match="cannot be read") as refused:
        _ = source.credentials
    assert "agent.key" in refused.value.mend


def test_reload_sees_new_certificates_and_bundles(files):
    source = files.source()
    version = source.version
    files.own(WEST.leaf("spiffe://west.example/hamlet/other"))
    assert source.reload()
    assert source.version > version
    assert str(source.credentials.spiffe_id) == "spiffe://west.example/hamlet/other"
    (files.folder / "east.pem").write_bytes(NORTH.pem)
    assert source.reload()
    assert source.bundle("east").certificates == (NORTH.certificate,)
    assert not source.reload()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("agent.crt", b""),
        ("agent.crt", b"garbage"),
        ("agent.crt", WEST.leaf("spiffe://west.example/a").pem),
        ("agent.key", b"garbage"),
        ("agent.key", WEST.leaf("spiffe://west.example/a").key_pem),
        ("east.pem", b""),
        ("east.pem", EAST.leaf(EAST_ID).pem),
    ],
    ids=[
        "no leaf",
        "a garbled leaf",
        "another's leaf",
        "a garbled key",
        "another's key",
        "no bundle",
        "no authority",
    ],
)
def test_what_is_broken_keeps_the_last_good_one_and_is_told(files, name, content):
    source = files.source()
    before = (source.credentials, source.bundle("east"), source.version)
    (files.folder / name).write_bytes(content)
    assert not source.reload()
    assert (source.credentials, source.bundle("east"), source.version) == before
    (path,) = source.problems
    assert path.parent == files.folder
    (finding,) = [f for f in source.findings(NOW) if f.severity is Severity.ERROR and str(path) in f.message]
    assert finding.subject in ("peer east: bundle", "identity: certificate", "identity: key")
    assert finding.message.endswith("the last good one is in force")
    assert [(each.path, each.in_force) for each in source.unusable()] == [(path, True)]


def test_of_a_bundle_that_was_never_there_no_last_good_one_is_spoken_of(files):
    (files.folder / "east.pem").unlink()
    with structlog.testing.capture_logs() as logs:
        source = files.source()
    assert [each["event"] for each in logs] == ["certificate file is not usable"]
    (finding,) = [f for f in source.findings(NOW) if f.severity is Severity.ERROR]
    assert (finding.subject, finding.mend) == ("peer east: bundle", "ask the operator of east for its bundle.pem")
    assert "in force" not in finding.message
    assert [each.in_force for each in source.unusable()] == [False]


def test_a_file_that_vanishes_keeps_the_last_good_one_and_recovers(files):
    source = files.source()
    bundle = files.folder / "east.pem"
    content = bundle.read_bytes()
    bundle.unlink()
    assert not source.reload()
    assert source.bundle("east").pem == content
    assert list(source.problems) == [bundle]
    bundle.write_bytes(content)
    assert not source.reload()
    assert source.problems == {}


def test_a_pair_is_taken_over_when_both_files_are_there(files):
    source = files.source()
    leaf = WEST.leaf("spiffe://west.example/hamlet/next")
    (files.folder / "agent.key").write_bytes(leaf.key_pem)
    assert not source.reload()
    assert "not the key" in source.problems[files.folder / "agent.crt"]
    (files.folder / "agent.crt").write_bytes(leaf.pem)
    assert source.reload()
    assert source.credentials.leaf == leaf.certificate
    assert source.problems == {}


def test_an_encrypted_key_is_refused_without_a_prompt(files):
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    leaf = WEST.leaf("spiffe://west.example/hamlet/agent")
    leaf.write(files.folder)
    encrypted = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (files.folder / "agent.key").write_bytes(encrypted)
    with pytest.raises(IdentityError, match="private key cannot be read"):
        _ = files.source().credentials


def test_configure_takes_over_peers_and_forgets_others(files):
    source = files.source()
    chain = NORTH.leaf("spiffe://north.example/x").chain
    assert source.still_trusts("north", chain, NOW)
    del files.peers["north"]
    assert source.configure(files.identity, files.peers)
    assert not source.still_trusts("north", chain, NOW)
    with pytest.raises(IdentityError, match="no configured peer"):
        source.identify(chain, NOW)
    assert not source.configure(files.identity, files.peers)


def test_a_peer_that_moves_to_a_broken_bundle_is_not_trusted_by_its_old_one(files):
    source = files.source()
    (files.folder / "new.pem").write_bytes(b"garbage")
    files.peers["east"] = Peer(bundle=files.folder / "new.pem", trust_domain="east.example")
    source.configure(files.identity, files.peers)
    with pytest.raises(IdentityError, match="no trust bundle"):
        source.identify(EAST.leaf(EAST_ID).chain, NOW)


def test_a_configuration_with_a_wrong_id_changes_nothing(files):
    source = files.source()
    wrong = files.peers["east"].model_copy(update={"spiffe_id": "spiffe://east.example/a//b"})
    with pytest.raises(IdentityError, match="no SPIFFE ID"):
        source.configure(files.identity, {"east": wrong})
    assert source.identify(EAST.leaf(EAST_ID).chain, NOW)[0] == "east"


def test_trust_in_a_standing_connection_ends_with_its_authority_not_with_its_leaf(files):
    source, chain = files.source(), EAST.leaf(EAST_ID).chain
    later = NOW + 5 * HOUR
    assert source.still_trusts("east", chain, later)
    (files.folder / "east.pem").write_bytes(EAST.pem + NORTH.pem)
    source.reload()
    assert source.still_trusts("east", chain, later)
    (files.folder / "east.pem").write_bytes(NORTH.pem)
    source.reload()
    assert not source.still_trusts("east", chain, later)


class TestWatch:
    """Real file events; every wait is for a condition, with a deadline."""

    @pytest.fixture
    async def watched(self, files):
        source = files.source()
        changed = asyncio.Event()
        task = asyncio.create_task(source.watch(changed.set))
        yield source, changed
        task.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), task.exception()

    @staticmethod
    async def until(changed: asyncio.Event, change: Callable[[], object]) -> None:
        """Make the change, again and again in case the watch had not begun, until it is told."""
        async with asyncio.timeout(20):
            while not changed.is_set():
                change()
                try:
                    async with asyncio.timeout(2):
                        await changed.wait()
                except TimeoutError:
                    continue
        changed.clear()

    async def test_a_rename_into_place_is_noticed(self, files, watched):
        source, changed = watched

        def rename():
            leaf = WEST.leaf("spiffe://west.example/hamlet/renamed")
            leaf.write(files.folder, "next")
            (files.folder / "next.key").replace(files.folder / "agent.key")
            (files.folder / "next.crt").replace(files.folder / "agent.crt")

        await self.until(changed, rename)
        assert str(source.credentials.spiffe_id) == "spiffe://west.example/hamlet/renamed"

    async def test_a_swap_of_symbolic_links_is_noticed(self, tmp_path, files):
        volume = tmp_path / "volume"
        volume.mkdir()

        def project(name, authority):
            """As the kubelet does it: a new folder, and one rename of the link to it."""
            data = volume / f"..{name}"
            data.mkdir()
            (data / "east.pem").write_bytes(authority.pem)
            (volume / "..new").symlink_to(data.name)
            (volume / "..new").replace(volume / "..data")

        project("first", EAST)
        (volume / "east.pem").symlink_to("..data/east.pem")
        files.peers["east"] = Peer(bundle=volume / "east.pem", trust_domain="east.example")
        source, changed = files.source(), asyncio.Event()
        task = asyncio.create_task(source.watch(changed.set))
        names = iter(range(100))
        try:
            for _ in range(2):  # the second swap: the watch has followed the first
                before = source.bundle("east").pem
                await self.until(changed, lambda: project(next(names), Mint("next")))
                assert source.bundle("east").pem != before
                for old in volume.glob("..[0-9]*"):
                    if old.name != str((volume / "..data").readlink()):
                        shutil.rmtree(old)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def test_a_new_configuration_moves_the_watch(self, tmp_path, files, watched):
        source, changed = watched
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "east.pem").write_bytes(EAST.pem)
        files.peers["east"] = Peer(bundle=elsewhere / "east.pem", trust_domain="east.example")
        source.configure(files.identity, files.peers)
        await self.until(changed, lambda: (elsewhere / "east.pem").write_bytes(Mint("new").pem))
        assert source.bundle("east").certificates != (EAST.certificate,)

    async def test_without_events_the_sweep_sees_it(self, files, monkeypatch):
        monkeypatch.setattr(source_module, "_SWEEP_SECONDS", 0.1)
        began = asyncio.Event()

        def no_watch(*_paths, **_options):
            began.set()
            raise OSError("no inotify here")

        monkeypatch.setattr(source_module, "awatch", no_watch)
        source, changed = files.source(), asyncio.Event()
        task = asyncio.create_task(source.watch(changed.set))
        try:
            async with asyncio.timeout(10):
                await began.wait()
                (files.folder / "east.pem").write_bytes(NORTH.pem)
                await changed.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert source.bundle("east").certificates == (NORTH.certificate,)

    async def test_a_failure_of_the_caller_ends_the_watch_with_it(self, files):
        def fail():
            raise OSError("from the caller")

        source = files.source()
        (files.folder / "east.pem").write_bytes(NORTH.pem)
        with pytest.raises(OSError, match="from the caller"):
            async with asyncio.timeout(10):
                await source.watch(fail)


def severities(findings, subject):
    return [finding.severity for finding in findings if finding.subject == subject]


def test_a_healthy_identity_has_only_good_findings(files):
    files.folder.joinpath("agent.key").chmod(0o600)
    findings = files.source().findings(NOW, trust_domain="west.example")
    assert {finding.severity for finding in findings} == {Severity.OK}
    assert {finding.subject for finding in findings} == {"identity", "peer east", "peer north"}


@pytest.mark.parametrize(
    ("leaf", "severity", "message"),
    [
        (WEST.leaf("spiffe://west.example/a", start=NOW - 2 * HOUR, end=NOW - HOUR), Severity.ERROR, "expired"),
        (WEST.leaf("spiffe://west.example/a", start=NOW - 9 * HOUR, end=NOW + HOUR), Severity.WARNING, "expires"),
        (WEST.leaf("spiffe://west.example/a", start=NOW + HOUR, end=NOW + 2 * HOUR), Severity.ERROR, "before"),
        (WEST.leaf("spiffe://other.example/a"), Severity.ERROR, "mesh.trust_domain is west.example"),
        (WEST.leaf(dns=["west.example"]), Severity.WARNING, "no SPIFFE ID"),
        (EAST.leaf("spiffe://west.example/a"), Severity.ERROR, "own bundle"),
    ],
)
def test_what_is_wrong_with_our_certificate_is_found_with_a_mend(files, leaf, severity, message):
    files.own(leaf)
    (files.folder / "bundle.pem").write_bytes(WEST.pem)
    identity = files.identity.model_copy(update={"bundle": files.folder / "bundle.pem"})
    findings = IdentitySource(identity, files.peers).findings(NOW, trust_domain="west.example")
    (finding,) = [f for f in findings if f.severity is not Severity.OK]
    assert (finding.subject, finding.severity) == ("identity", severity)
    assert message in finding.message
    assert finding.mend


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o600, []), (0o400, []), (0o640, []), (0o644, ["w"]), (0o660, ["w"]), (0o604, ["w"])]
)
def test_a_key_that_others_can_use_is_a_warning(files, mode, expected):
    (files.folder / "agent.key").chmod(mode)
    warnings = [f for f in files.source().findings(NOW) if f.severity is Severity.WARNING]
    assert ["w" for f in warnings if "private key" in f.message] == expected


@pytest.mark.parametrize(
    ("lives", "severities_of_east"),
    [
        ([(-2, -1)], [Severity.ERROR]),
        ([(-2, -1), (-1, 24)], [Severity.WARNING]),
        ([(-9, 1)], [Severity.WARNING]),
        ([(-1, 24), (-1, 25)], [Severity.OK]),
    ],
)
def test_the_authorities_of_a_bundle_are_judged_together(files, lives, severities_of_east):
    authorities = [Mint(f"east {n}", start=NOW + a * HOUR, end=NOW + b * HOUR) for n, (a, b) in enumerate(lives)]
    (files.folder / "east.pem").write_bytes(b"".join(authority.pem for authority in authorities))
    assert severities(files.source().findings(NOW), "peer east") == severities_of_east


def test_an_authority_in_two_bundles_is_a_warning(files):
    files.peer("south", EAST)
    (shared,) = [f for f in files.source().findings(NOW) if f.severity is Severity.WARNING and "bundles" in f.message]
    assert "east and south" in shared.message


def test_our_own_authority_in_a_peers_bundle_is_an_error_with_a_mend(files):
    (files.folder / "bundle.pem").write_bytes(WEST.pem)
    files.peer("south", WEST)
    identity = files.identity.model_copy(update={"bundle": files.folder / "bundle.pem"})
    errors = [f for f in IdentitySource(identity, files.peers).findings(NOW) if f.severity is Severity.ERROR]
    (finding,) = errors
    assert finding.subject == "peer south"
    assert "one of our own" in finding.message
    assert "let peers.south.bundle name a file" in finding.mend


def _authority_of(*uris):
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
    return Mint("south", extensions=[(names, False)])


@pytest.mark.parametrize(
    ("authority", "known", "said"),
    [
        (_authority_of("spiffe://south.example"), {"trust_domain": "south.example"}, []),
        (_authority_of("spiffe://south.example/ca"), {"trust_domain": "south.example"}, []),
        (_authority_of("spiffe://east.example"), {"trust_domain": "south.example"}, ["east.example"]),
        (_authority_of("https://east.example"), {"trust_domain": "south.example"}, []),
        (_authority_of("spiffe://east.example"), {"dns_name": "agent.south.example"}, []),
        (Mint("south"), {"trust_domain": "south.example"}, []),
    ],
    ids=["its own", "with a path", "another's", "no SPIFFE URI", "a peer without a trust domain", "no URI"],
)
def test_an_authority_of_another_trust_domain_than_the_peers_is_an_error(files, authority, known, said):
    files.peer("south", authority, **known)
    found = [f for f in files.source().findings(NOW) if f.subject == "peer south" and f.severity is Severity.ERROR]
    assert len(found) == len(said)
    for finding, domain in zip(found, said, strict=True):
        assert f"is of trust domain {domain}, but peers.south.trust_domain is south.example" in finding.message


@pytest.mark.parametrize(
    ("other", "warned"),
    [
        (Mint("east"), 0),
        (Mint("east", key_identifiers=False), 1),
        (Mint("south", key_identifiers=False), 0),
        (Mint("east", key=EAST.key, key_identifiers=False), 0),
    ],
    ids=["key identifiers", "none", "another name", "the same key"],
)
def test_authorities_that_tls_cannot_tell_apart_are_a_warning(files, other, warned):
    files.peer("south", other)
    found = [f for f in files.source().findings(NOW) if "key identifier" in f.message]
    assert len(found) == warned


def test_a_certificate_that_cannot_be_parsed_is_nobody(files):
    class Broken:
        """A certificate whose extensions cannot be read, as a hostile peer may present."""

        def __getattr__(self, name):
            return getattr(EAST.leaf(EAST_ID).certificate, name)

        @property
        def extensions(self):
            raise x509.DuplicateExtension("twice", x509.ObjectIdentifier("2.5.29.17"))

    with pytest.raises(IdentityError, match="no configured peer"):
        files.source().identify((Broken(),), NOW)
