"""The agent's numbers for Prometheus, taken from the status document when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hamlet_core.agent.status import Document

METRICS = {
    "hamlet_ready": "1 once every registry has reported and peers are served.",
    "hamlet_leading": "1 while this agent leads its mesh, 0 while it stands by; only where there is a coordinator.",
    "hamlet_identity_expiry_seconds": "When our certificate expires, as Unix time.",
    "hamlet_peer_imports_state": "1 for the state that the import from a peer is in.",
    "hamlet_peer_exports_state": "1 for the state that publishing to a peer is in.",
    "hamlet_peer_imports_offered": "Services that the peer offers to us.",
    "hamlet_peer_imports_standing": "Services of the peer that stand in our registry, as far as it has said so.",
    "hamlet_peer_imports_pending": "Changes from the peer that are not in our registry yet.",
    "hamlet_peer_imports_rejected": "Services of the peer that we refuse.",
    "hamlet_peer_imports_held": "Removals that wait for confirmation.",
    "hamlet_peer_exports_offered": "Services that we offer to the peer.",
    "hamlet_peer_exports_lag": "Changes that the peer has not acknowledged yet.",
    "hamlet_peer_exports_rejected": "Services that the peer refuses.",
    "hamlet_peer_streams": "Streams that are up with the peer.",
    "hamlet_registry_publishing": "1 while the registry is heard, 0 while its last report stands in for it.",
    "hamlet_registry_importing": "1 while the registry takes imports.",
    "hamlet_gateway_up": "1 while every gateway takes routes; only where a plugin drives one.",
    "hamlet_gateway_routes": "Routes that the gateway leads, into this mesh (published) and out of it (imported).",
    "hamlet_gateway_refused": "Routes that the gateway refuses: services that are not published for that reason.",
    "hamlet_refused_callers": "Callers turned away after the TLS handshake: they are no peer, or not any more.",
    "hamlet_task_crashes": "Crashes of the agent's own tasks.",
}
"""Every metric there is, and what it means (`_total` is added to the last two)."""


class StatusCollector(Collector):
    """Turns a status document into metrics. `status` may be called from any thread."""

    def __init__(self, status: Callable[[], Document], expiry: Callable[[], float]) -> None:
        self._status = status
        self._expiry = expiry

    def describe(self) -> list[Metric]:
        """Nothing in advance: the labels depend on the peers there are."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per name of `METRICS`."""
        status = self._status()
        yield _gauge("hamlet_ready", [], [([], float(status["ready"]))])
        coordinator = status["coordinator"]
        if coordinator is not None:
            yield _gauge("hamlet_leading", [], [([], float(coordinator["leading"]))])
        yield _gauge("hamlet_identity_expiry_seconds", [], [([], self._expiry())])
        peers = status["peers"]
        for way in ("imports", "exports"):
            states = [([peer["name"], peer[way]["state"]], 1.0) for peer in peers]
            yield _gauge(f"hamlet_peer_{way}_state", ["peer", "state"], states)
        for way, key in (
            ("imports", "offered"), ("imports", "standing"), ("imports", "pending"), ("imports", "rejected"),
            ("imports", "held"), ("exports", "offered"), ("exports", "lag"), ("exports", "rejected"),
        ):  # fmt: skip
            yield _gauge(
                f"hamlet_peer_{way}_{key}", ["peer"], [([peer["name"]], _number(peer[way][key])) for peer in peers]
            )
        yield _gauge(
            "hamlet_peer_streams", ["peer"], [([peer["name"]], float(len(peer["streams"]))) for peer in peers]
        )
        for way in ("publishing", "importing"):
            rows = [([each["name"]], float(each[way]["state"] == "live")) for each in status["registries"]]
            yield _gauge(f"hamlet_registry_{way}", ["registry"], rows)
        gateways = [each for each in (status["gateway"], status["egress"]) if each is not None]
        if gateways:
            up = all(each["state"] == "live" for each in gateways)
            yield _gauge("hamlet_gateway_up", [], [([], float(up))])
            routes = [([way], float(sum(each.get(way, 0) for each in gateways))) for way in ("published", "imported")]
            yield _gauge("hamlet_gateway_routes", ["way"], routes)
            refused = [each["refused"] for each in gateways if "refused" in each]
            yield _gauge("hamlet_gateway_refused", [], [([], float(sum(map(len, refused))))])
        yield _counter("hamlet_refused_callers", [], [([], float(status["refused_callers"]))])
        yield _counter("hamlet_task_crashes", ["task"], [([k], float(v)) for k, v in status["crashes"].items()])


def _number(value: int | dict[str, object]) -> float:
    return float(len(value) if isinstance(value, dict) else value)


def _gauge(name: str, labels: list[str], rows: list[tuple[list[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, METRICS[name], labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _counter(name: str, labels: list[str], rows: list[tuple[list[str], float]]) -> Metric:
    family = CounterMetricFamily(name, METRICS[name], labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
