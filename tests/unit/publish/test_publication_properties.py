"""Change by change it comes to the same as all at once, and each stream has exactly its peer's view."""

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hamlet_core.api import Endpoint, FederatedService, Ingress, LocalService, Remove, ServicePort, Snapshot, Upsert
from hamlet_core.config.model import PublishRule
from hamlet_core.publish.catalog import Catalog, Payload
from hamlet_core.publish.policy import Policy
from hamlet_core.publish.publication import Publication

START = datetime(2030, 1, 1, tzinfo=UTC)
PEERS = ("east", "north", "south")
REGISTRIES = ("main", "second")

times = st.integers(0, 6).map(lambda hours: START + timedelta(hours=hours))
peers = st.lists(st.sampled_from(PEERS), unique=True).map(tuple)
services = st.builds(
    LocalService,
    name=st.sampled_from(["orders", "cart", "users"]),
    ports=st.just((ServicePort(name="http", port=80),)),
    endpoints=st.sampled_from(
        [(), (Endpoint(address="10.0.0.1", port=80),), (Endpoint(address="10.0.0.2", port=80),)]
    ),
    tags=st.sampled_from([(), ("public",)]),
    publish_to=st.sampled_from([(), ("*",), ("east",), ("north", "south")]),
)
rules = st.builds(
    lambda to, name, begin, hours, **others: PublishRule.model_validate(
        {"to": to, "name": name, "from": begin, "until": begin + timedelta(hours=hours), **others}
    ),
    to=st.one_of(st.just("all"), peers),
    name=st.sampled_from(["{name}.{domain}", "shop.{domain}", "{name}.{registry}.{domain}", "{name}"]),
    begin=times,
    hours=st.integers(1, 4),
    direct=st.booleans(),
    select=st.fixed_dictionaries(
        {
            "name": st.sampled_from(["*", "o*"]),
            "tags": st.sampled_from([(), ("public",)]),
            "marked": st.booleans(),
        }
    ),
)
policies = st.builds(
    Policy,
    mesh=st.just("west"),
    domain=st.just("west.example"),
    rules=st.lists(rules, max_size=4).map(tuple),
    peers=st.just(PEERS),
    registries=st.permutations(REGISTRIES).map(tuple),
    ingress=st.sampled_from([None, Ingress(endpoints=(Endpoint(address="gw.west.example", port=443),), sans=())]),
)


def pack(service: FederatedService) -> Payload:
    return Payload(v1alpha1=repr(service).encode(), v1alpha2=b"")


class PublicationMachine(RuleBasedStateMachine):
    """Every peer has a stream from the beginning, which is moved when the policy changes."""

    @initialize(policy=policies)
    def start(self, policy):
        self.now = START
        self.policy = policy
        self.catalog = Catalog(pack)
        self.publication = Publication(policy, self.catalog, self.now)
        self.local: dict[str, dict[str, LocalService]] = {registry: {} for registry in REGISTRIES}
        self.streams = {peer: self.catalog.subscribe(self.publication.audience(peer)) for peer in PEERS}
        self.holds: dict[str, dict[str, bytes]] = {peer: {} for peer in PEERS}

    @rule(registry=st.sampled_from(REGISTRIES), service=services)
    def upsert(self, registry, service):
        self.publication.observe(registry, (Upsert(service),), self.now)
        self.local[registry][service.name] = service

    @rule(registry=st.sampled_from(REGISTRIES), name=st.sampled_from(["orders", "cart", "users"]))
    def remove(self, registry, name):
        before = set(self.publication.local_names())
        changed = self.publication.observe(registry, (Remove(name),), self.now)
        assert changed == (before != set(self.publication.local_names()))
        self.local[registry].pop(name, None)

    @rule(registry=st.sampled_from(REGISTRIES), services=st.lists(services, unique_by=lambda each: each.name))
    def snapshot(self, registry, services):
        self.publication.observe(registry, Snapshot(tuple(services)), self.now)
        self.local[registry] = {service.name: service for service in services}

    @rule(now=times)
    def tick(self, now):
        self.now = now
        self.publication.tick(now)

    @rule(policy=policies)
    def set_policy(self, policy):
        self.policy = policy
        self.publication.set_policy(policy, self.now)
        for peer, stream in self.streams.items():
            stream.move(self.publication.audience(peer))

    @rule(peer=st.sampled_from(PEERS), limit=st.integers(1, 3))
    def take(self, peer, limit):
        for entry in self.streams[peer].take(limit):
            if entry.payload is None:
                self.holds[peer].pop(entry.name, None)
            else:
                self.holds[peer][entry.name] = entry.payload.v1alpha1

    @invariant()
    def it_is_as_if_decided_all_at_once(self):
        anew = Publication(self.policy, Catalog(pack), self.now)
        for registry, services in self.local.items():
            anew.observe(registry, Snapshot(tuple(services.values())), self.now)
        assert self.publication.views == anew.views
        assert self.publication.problems() == anew.problems()
        assert self.publication.local_names() == anew.local_names()
        assert {each.audience for each in self.catalog.stats().audiences if each.services} <= {
            self.publication.audience(peer) for peer in PEERS
        }

    def teardown(self):
        for peer in getattr(self, "streams", ()):
            self.take(peer, 1_000)
            view = self.publication.views[peer]
            assert self.holds[peer] == {name: pack(service).v1alpha1 for name, service in view.items()}


TestPublication = PublicationMachine.TestCase
TestPublication.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
