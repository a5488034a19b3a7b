"""Whatever happens to the catalog, in whatever order: who takes all there is holds exactly its view."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from hamlet_core.api import FederatedService
from hamlet_core.publish.catalog import Catalog, Entry, Payload, Subscription

AUDIENCES = st.sampled_from(["east", "north", "south"])
NAMES = st.sampled_from("abcdefgh")
STATES = st.sampled_from("123")
LIMITS = st.integers(0, 5)


def service(name: str, state: str) -> FederatedService:
    return FederatedService(name=name, fqdn=name, description=state, endpoints=(), instances=())


def pack(service: FederatedService) -> Payload:
    packed = f"{service.name}={service.description}".encode()
    return Payload(v1alpha1=packed, v1alpha2=packed)


class Consumer:
    """Applies what it takes, as another mesh would; counts how often it was told."""

    def __init__(self, catalog: Catalog, audience: str) -> None:
        self.audience = audience
        self.holds: dict[str, bytes] = {}
        self.told = 0
        self.subscription: Subscription = catalog.subscribe(audience)
        self.subscription.on_change = self._tell

    def _tell(self) -> None:
        self.told += 1

    def take(self, limit: int) -> int:
        taken = self.subscription.take(limit)
        assert len({entry.name for entry in taken}) == len(taken) <= limit
        for entry in taken:
            self.apply(entry)
        return len(taken)

    def apply(self, entry: Entry) -> None:
        if entry.payload is None:
            self.holds.pop(entry.name, None)
        else:
            self.holds[entry.name] = entry.payload.v1alpha2


class CatalogMachine(RuleBasedStateMachine):
    """The model: per audience the services it is offered, per consumer what it has applied."""

    consumers = Bundle("consumers")

    def __init__(self) -> None:
        super().__init__()
        self.catalog = Catalog(pack, least_tombstones=2)
        self.views: dict[str, dict[str, bytes]] = {"east": {}, "north": {}, "south": {}}
        self.open: list[Consumer] = []

    @rule(audience=AUDIENCES, name=NAMES, state=STATES)
    def put(self, audience, name, state):
        before = {consumer: consumer.told for consumer in self.open}
        new = f"{name}={state}".encode()
        changes = self.views[audience].get(name) != new
        self.catalog.put(audience, service(name, state))
        self.views[audience][name] = new
        for consumer, told in before.items():
            assert (consumer.told > told) == (
                changes and consumer.audience == audience and not consumer.subscription.stale
            )

    @rule(audience=AUDIENCES, name=NAMES)
    def remove(self, audience, name):
        self.catalog.remove(audience, name)
        self.views[audience].pop(name, None)

    @rule(audience=AUDIENCES, services=st.dictionaries(NAMES, STATES))
    def replace(self, audience, services):
        self.catalog.replace(audience, [service(*each) for each in services.items()])
        self.views[audience] = {name: f"{name}={state}".encode() for name, state in services.items()}

    @rule(audience=AUDIENCES, target=consumers)
    def subscribe(self, audience):
        consumer = Consumer(self.catalog, audience)
        self.open.append(consumer)
        return consumer

    @rule(consumer=consumers, limit=LIMITS)
    def take(self, consumer, limit):
        if consumer.subscription.stale:
            return
        lag, caught_up = consumer.subscription.lag, consumer.subscription.caught_up
        assert caught_up == (lag == 0)
        assert consumer.take(limit) == min(limit, lag)
        assert consumer.subscription.lag == max(0, lag - limit)
        if consumer.subscription.caught_up:
            assert consumer.holds == self.views[consumer.audience]

    @rule(consumer=consumers, audience=AUDIENCES)
    def move(self, consumer, audience):
        if consumer.subscription.stale:
            return
        consumer.subscription.move(audience)
        consumer.audience = audience

    @rule(consumer=consumers, name=NAMES)
    def send_again(self, consumer, name):
        if consumer.subscription.stale:
            return
        entry = consumer.subscription.current(name)
        if entry is not None and name in consumer.holds:
            payload = None if entry.payload is None else entry.payload.v1alpha2
            assert payload == self.views[consumer.audience].get(name)
            assert payload == consumer.holds[name]

    @rule(consumer=consumes(consumers))
    def close(self, consumer):
        consumer.subscription.close()
        self.open.remove(consumer)

    @precondition(lambda self: any(consumer.subscription.stale for consumer in self.open))
    @rule()
    def dial_again(self):
        """A stale consumer subscribes anew and, at the end of the walk, drops what it did not get."""
        consumer = next(consumer for consumer in self.open if consumer.subscription.stale)
        consumer.subscription.close()
        consumer.subscription = self.catalog.subscribe(consumer.audience)
        consumer.subscription.on_change = consumer._tell
        consumer.holds = {}

    @rule(audience=AUDIENCES)
    def retire(self, audience):
        if not any(consumer.audience == audience for consumer in self.open):
            self.catalog.retire(audience)
            self.views[audience] = {}

    @invariant()
    def memory_is_in_proportion_to_the_services(self):
        stats = self.catalog.stats()
        for audience in stats.audiences:
            assert audience.services == len(self.views[audience.audience])
            assert audience.log_length <= 2 * (audience.services + audience.tombstones) + 64
            assert audience.tombstones <= 8
            assert audience.tombstones == 0 or audience.subscriptions
        distinct = {payload for view in self.views.values() for payload in view.values()}
        assert stats.payloads == len(distinct)
        assert stats.payload_bytes == 2 * sum(map(len, distinct))

    def teardown(self):
        for consumer in self.open:
            if not consumer.subscription.stale:
                consumer.take(1_000)
                assert consumer.subscription.caught_up
                assert consumer.holds == self.views[consumer.audience]


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
