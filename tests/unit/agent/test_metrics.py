from prometheus_client import CollectorRegistry, generate_latest

from hamlet_core.agent.metrics import METRICS, StatusCollector

PEER = {
    "name": "east",
    "streams": [{}, {}],
    "imports": {"state": "live", "offered": 5, "standing": 4, "pending": 3, "rejected": {"a": "no"}, "held": {}},
    "exports": {"state": "syncing", "offered": 9, "lag": 2, "rejected": {}},
}
STATUS = {
    "ready": True,
    "coordinator": {"leading": True},
    "peers": [PEER],
    "gateway": {"state": "live", "published": 3, "imported": 0, "refused": {"orders.west.example": "why"}},
    "egress": {"state": "waiting", "imported": 4},
    "registries": [{"name": "west", "publishing": {"state": "live"}, "importing": {"state": "waiting"}}],
    "refused_callers": 6,
    "crashes": {"link east": 1},
}


def test_every_metric_is_exported_with_its_meaning():
    families = {family.name: family for family in StatusCollector(lambda: STATUS, lambda: 12.5).collect()}
    assert set(families) == set(METRICS)
    for name, family in families.items():
        assert family.samples, name
        assert family.documentation == METRICS[name]


def test_the_numbers_are_those_of_the_status():
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: STATUS, lambda: 12.5))
    text = generate_latest(registry).decode()
    for line in (
        "hamlet_ready 1.0",
        "hamlet_leading 1.0",
        "hamlet_identity_expiry_seconds 12.5",
        'hamlet_peer_imports_state{peer="east",state="live"} 1.0',
        'hamlet_peer_imports_rejected{peer="east"} 1.0',
        'hamlet_peer_imports_held{peer="east"} 0.0',
        'hamlet_peer_exports_lag{peer="east"} 2.0',
        'hamlet_peer_streams{peer="east"} 2.0',
        'hamlet_registry_publishing{registry="west"} 1.0',
        'hamlet_registry_importing{registry="west"} 0.0',
        "hamlet_gateway_up 0.0",
        'hamlet_gateway_routes{way="published"} 3.0',
        'hamlet_gateway_routes{way="imported"} 4.0',
        "hamlet_gateway_refused 1.0",
        "hamlet_refused_callers_total 6.0",
        'hamlet_task_crashes_total{task="link east"} 1.0',
    ):
        assert f"\n{line}\n" in text
