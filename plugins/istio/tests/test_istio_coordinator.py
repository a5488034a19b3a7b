"""The coordinator of kind `istio`: the contract on a real Kubernetes API, ways that fall silent, and its rights."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import hamlet_istio
import pytest
import yaml
from hamlet_istio import coordinator
from hamlet_istio.coordinator import IstioCoordinator, IstioCoordinatorOptions
from hamlet_istio.verification_leases import LeaseBackend

from hamlet_core.api import AdapterContext, CoordinatorUnavailable, Severity, Stop
from hamlet_core.api.testing import CoordinatorBackend, CoordinatorContract
from tests.backends.kubernetes import Kubernetes

pytestmark = pytest.mark.xdist_group("kubernetes")

TTL = 6.0
"""Of the contract, which waits for it to be over."""
LONG = 60.0
"""Of the rest, which does not: a call may take a sixth of it."""
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
MANIFEST = Path(hamlet_istio.__file__).parent / "manifests" / "rbac-coordinator.yaml"
CONTEXT = AdapterContext(
    name="coordinator", mesh="west", domain="west.example", trust_domain="west.example", directory=Path("/")
)


@pytest.fixture
def place(kubernetes: Kubernetes) -> Iterator[str]:
    """A namespace of this test alone."""
    name = kubernetes.make_namespace(f"leads-{secrets.token_hex(4)}")
    yield name
    kubernetes.wipe(name, LEASES)


class WholeNamespace(LeaseBackend):
    """What the plugin ships, which looks at each Lease of the namespace."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        given = {"kubeconfig": kubernetes.kubeconfig, "namespace": namespace, "ttl": TTL}
        super().__init__(IstioCoordinatorOptions.model_validate(given))
        self._kubernetes, self._namespace = kubernetes, namespace

    def entries(self) -> Mapping[str, object]:
        found = self._kubernetes.do("GET", LEASES.format(namespace=self._namespace))["items"]
        return {each["metadata"]["name"]: each for each in found}


@pytest.mark.timeout(240)
class TestIstioCoordinatorContract(CoordinatorContract):
    """C1 to C6."""

    @pytest.fixture
    def backend(self, kubernetes: Kubernetes, place: str) -> Iterator[CoordinatorBackend]:
        backend = WholeNamespace(kubernetes, place)
        yield backend
        backend.close()

    @pytest.fixture(autouse=True)
    def patient(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that is held up for a second is none that cannot be reached; the checks of C4 take that second."""
        monkeypatch.setattr(coordinator, "CALL", 1 / 2)
        if not request.node.name.startswith("test_c4"):
            monkeypatch.setattr(coordinator, "LAST_WORDS", timedelta(seconds=1))


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives a lead up gets its word in, however busy the server is."""
    monkeypatch.setattr(coordinator, "LAST_WORDS", timedelta(seconds=30))


def opened(kubernetes: Kubernetes, place: str, **options: Any) -> IstioCoordinator:
    given = {"kubeconfig": kubernetes.kubeconfig, "namespace": place, "ttl": LONG, "connect_timeout": 30} | options
    return IstioCoordinator(IstioCoordinatorOptions(**given), CONTEXT)


def lease(kubernetes: Kubernetes, place: str, name: str = "hamlet-west") -> Any:
    return kubernetes.do("GET", f"{LEASES.format(namespace=place)}/{name}")


@pytest.mark.usefixtures("unhurried")
def test_the_lease_says_who_holds_it_as_other_leaders_leases_do(kubernetes: Kubernetes, place: str) -> None:
    terms = []
    for _ in range(2):
        words = opened(kubernetes, place).coordinator_lead(stop := Stop())
        assert next(words)
        terms.append(lease(kubernetes, place)["spec"])
        stop.set()
        assert list(words) == []
        assert not lease(kubernetes, place)["spec"].get("holderIdentity")
    assert terms[0]["holderIdentity"] != terms[1]["holderIdentity"]
    assert [each["leaseTransitions"] for each in terms] == [0, 1]
    assert terms[0]["leaseDurationSeconds"] == LONG
    assert terms[0]["acquireTime"] < terms[1]["acquireTime"]


def test_a_lease_of_another_trust_domain_is_in_the_way_by_name(kubernetes: Kubernetes, place: str) -> None:
    words = opened(kubernetes, place).coordinator_lead(stop := Stop())
    assert next(words)
    other = AdapterContext(
        name="coordinator", mesh="west", domain="north.example", trust_domain="north.example", directory=Path("/")
    )
    options = IstioCoordinatorOptions(kubeconfig=kubernetes.kubeconfig, namespace=place)
    with pytest.raises(CoordinatorUnavailable, match="hamlet-west is there") as raised:
        next(IstioCoordinator(options, other).coordinator_lead(Stop()))
    assert "`lease`" in raised.value.mend
    stop.set()
    assert list(words) == []


@pytest.mark.usefixtures("unhurried")
def test_the_shipped_role_is_enough_and_each_of_its_verbs_is_needed(
    kubernetes: Kubernetes, place: str, tmp_path: Path
) -> None:
    kubernetes.put(f"/api/v1/namespaces/{place}/serviceaccounts", "hamlet", {})
    role, binding = yaml.safe_load_all(MANIFEST.read_text())
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place}"
    for each, collection in ((role, "roles"), (binding, "rolebindings")):
        each["metadata"]["namespace"] = place
        for subject in each.get("subjects", ()):
            subject["namespace"] = place
        kubernetes.put(f"{path}/{collection}", each["metadata"]["name"], each)
    token = kubernetes.token_for(place, "hamlet")
    settings = yaml.safe_load(kubernetes.kubeconfig.read_text())
    for each in settings["users"]:
        each["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(settings))

    def lead() -> None:
        words = opened(kubernetes, place, kubeconfig=tmp_path / "kubeconfig").coordinator_lead(stop := Stop())
        try:
            assert next(words)
        finally:
            stop.set()
            words.close()

    (rule,) = role["rules"]
    verbs = list(rule["verbs"])

    def grant(*granted: str) -> None:
        """Have the role say so, and the server know it."""
        rule["verbs"] = list(granted)
        kubernetes.put(f"{path}/roles", role["metadata"]["name"], role)
        for each in verbs:
            right = {"group": "coordination.k8s.io", "resource": "leases", "namespace": place, "verb": each}
            kubernetes.wait_for_right((place, "hamlet"), right, may=each in granted)

    grant(*verbs)
    lead()
    for verb in verbs:
        grant(*(each for each in verbs if each != verb))
        if verb == "create":
            kubernetes.wipe(place, LEASES)
        with pytest.raises(CoordinatorUnavailable, match="403"):
            lead()
        grant(*verbs)
        lead()


def test_a_check_says_who_holds_the_lease_and_what_is_wrong(kubernetes: Kubernetes, place: str) -> None:
    one = opened(kubernetes, place)
    (before,) = one.coordinator_check()
    words = one.coordinator_lead(stop := Stop())
    assert next(words)
    (during,) = one.coordinator_check()
    holder = lease(kubernetes, place)["spec"]["holderIdentity"]
    assert [before.message, during.message] == ["nobody holds it", f"{holder} holds it"]
    stop.set()
    assert list(words) == []
    nowhere = IstioCoordinatorOptions(server="https://127.0.0.1:1", token="none")  # type: ignore[arg-type]
    (finding,) = IstioCoordinator(nowhere, CONTEXT).coordinator_check()
    assert finding.severity is Severity.ERROR
    assert finding.mend
