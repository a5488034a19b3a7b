"""Calls out: the sidecars originate TLS, and this gives them the secrets to do it with. It acts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hamlet_core.api import ImportAnswer, ImportKey, ImportRoute, PeerTrust, Refused, Route, Trust
from hamlet_istio import writing
from hamlet_istio.connection import Connection
from hamlet_istio.gateway_kept import Kept, demanded, tried
from hamlet_istio.gateway_objects import EGRESS, secret
from hamlet_istio.gateway_options import EgressOptions, IstioGatewayOptions
from hamlet_istio.marks import PEER, Marker, annotations_of
from hamlet_istio.naming import object_name
from hamlet_istio.resources import SECRETS
from hamlet_istio.settings import settings_of

AUTO_PASSTHROUGH = "outbound_."
"""How server names begin that an ingress of mode AUTO_PASSTHROUGH reads: `outbound_.<port>_.<subset>_.<host>`."""


def credential_of(peer: str, options: EgressOptions) -> str:
    """The name of the secret for calls to a peer."""
    return f"{options.credential}-{object_name(peer)}"


def answer(route: ImportRoute, options: EgressOptions, trusted: Mapping[str, PeerTrust]) -> ImportAnswer:
    """How sidecars reach a service, or why they never can. Pure."""
    service = route.service
    if not service.sans:
        return Refused(
            "it names no SANs, so nothing would tell its ingress from an impostor: the owner has to publish them"
        )
    if options.mode == "MUTUAL":
        if route.peer not in trusted:
            return Refused(f"there is no bundle of {route.peer} to verify its ingress by: give the peer one")
        passed = [each.id for each in service.instances if each.sni.startswith(AUTO_PASSTHROUGH)]
        if passed:
            return Refused(
                f"the server name of {', '.join(passed)} is for an ingress of mode AUTO_PASSTHROUGH, which takes"
                " Istio's own TLS alone: set `egress.mode: ISTIO_MUTUAL`, with trust that both meshes share"
            )
    return Route(
        endpoints={each.id: service.endpoints_of(each) for each in service.instances},
        originates_tls=False,
        settings=settings_of(options.tls(credential_of(route.peer, options))),
    )


class EgressHalf:
    """Keeps the secrets of the consuming namespaces; one call at a time."""

    def __init__(
        self, connection: Connection, options: IstioGatewayOptions, egress: EgressOptions, marker: Marker
    ) -> None:
        self._egress, self._marker = egress, marker
        self._kept = Kept(connection, options, marker, EGRESS)
        self._writes = egress.mode == "MUTUAL" and egress.write_secrets

    def trust(self, trust: Trust) -> None:
        """Have every secret that stands say so; one for a peer that is none any more goes."""
        if not self._writes:
            return
        self._learn()
        trusted = {peer.peer: peer for peer in trust.peers}
        try:
            for at, live in self._kept.ours(SECRETS.kind).items():
                peer = trusted.get(annotations_of(live).get(PEER, ""))
                if peer is None:
                    demanded(tried(lambda at=at: self._kept.drop(SECRETS, at)))  # type: ignore[misc]
                else:
                    self._write(peer, trust, at.namespace)
        except BaseException:
            self._kept.distrust()
            raise

    def routes(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None, trust: Trust
    ) -> dict[ImportKey, ImportAnswer]:
        """Say how each service is reached, once the secret for its peer stands; take out those nobody needs."""
        trusted = {peer.peer: peer for peer in trust.peers}
        answers = {route.key: answer(route, self._egress, trusted) for route in routes}
        if not self._writes:
            return answers
        self._learn()
        needed = {key.peer for key, each in answers.items() if isinstance(each, Route)}
        try:
            for name in sorted(needed):
                for namespace in sorted(self._egress.consumers):
                    try:
                        self._write(trusted[name], trust, namespace)
                    except writing.Refused as refused:
                        reason = Refused(str(refused))
                        answers |= {key: reason for key, each in answers.items() if _leads_to(name, key, each)}
            if keep is not None:
                wanted = needed | {key.peer for key in keep}
                for at, live in self._kept.ours(SECRETS.kind).items():
                    if annotations_of(live).get(PEER, "") not in wanted:
                        demanded(tried(lambda at=at: self._kept.drop(SECRETS, at)))  # type: ignore[misc]
        except BaseException:
            self._kept.distrust()
            raise
        return answers

    def _learn(self) -> None:
        demanded(tried(lambda: self._kept.learn([(SECRETS, each) for each in sorted(self._egress.consumers)])))

    def _write(self, peer: PeerTrust, trust: Trust, namespace: str) -> None:
        name = credential_of(peer.peer, self._egress)
        body = secret(name, namespace, trust, [peer.bundle], self._marker, EGRESS, peer=peer.peer)
        found = tried(lambda: self._kept.put(SECRETS, body))
        if isinstance(found, writing.Refused):
            raise found
        demanded(found)


def _leads_to(peer: str, key: ImportKey, found: ImportAnswer) -> bool:
    return key.peer == peer and isinstance(found, Route)
