"""The gateway: the hooks of `GatewaySpec` on one cluster. It only puts the parts together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import structlog

from hamlet_core.api import (
    AdapterContext,
    Finding,
    GatewayUnavailable,
    ImportAnswer,
    ImportKey,
    ImportRoute,
    Ingress,
    PublishRefusals,
    PublishRoute,
    Refused,
    Stop,
    Trust,
    hookimpl,
)
from hamlet_istio import certificates
from hamlet_istio.connection import Connection
from hamlet_istio.gateway_check import findings
from hamlet_istio.gateway_egress import EgressHalf
from hamlet_istio.gateway_ingress import IngressHalf
from hamlet_istio.gateway_kept import demanded, tried
from hamlet_istio.gateway_objects import GatewayApis
from hamlet_istio.gateway_options import IstioGatewayOptions
from hamlet_istio.ingress_address import follow
from hamlet_istio.marks import Marker
from hamlet_istio.resources import NETWORKING, OF_ISTIO, SECURITY, served_versions

_log = structlog.get_logger(__name__)


class IstioGateway:
    """The ingress gateway of an Istio mesh, and its sidecars. `connection.requests` counts its calls by method."""

    def __init__(self, options: IstioGatewayOptions, context: AdapterContext) -> None:
        self._options, self._context = options, context
        self.connection = Connection(options, context.directory)
        marker = Marker(context, "")
        self._trust: Trust | None = None
        self._names: tuple[str, ...] = ()
        self._known: GatewayApis | None = None
        self._in = (
            IngressHalf(self.connection, options, options.ingress, marker, self._apis) if options.ingress else None
        )
        self._out = EgressHalf(self.connection, options, options.egress, marker) if options.egress else None

    @hookimpl
    def gateway_ingress(self, stop: Stop) -> Iterator[Ingress | None]:
        """Tell the addresses with the names in the mesh's certificate, whenever those change."""
        return self._ingress(stop)

    @hookimpl
    def gateway_trust(self, trust: Trust) -> bool:
        """Have the secrets say what is believed now."""
        trust = _usable(trust)
        for half in (self._in, self._out):
            if half is not None:
                half.trust(trust)
        self._names, self._trust = certificates.names_of(trust.certificate), trust
        return True

    @hookimpl
    def gateway_publish(self, routes: Sequence[PublishRoute]) -> PublishRefusals:
        """Have the routes stand in the cluster."""
        if self._in is None:
            return {route.sni: Refused("this gateway has no `ingress` by its settings") for route in routes}
        try:
            return self._in.publish(routes, self._trusted())
        except GatewayUnavailable:
            self._known = None  # what is served may be another thing by then
            raise

    @hookimpl
    def gateway_import(
        self, routes: Sequence[ImportRoute], keep: Collection[ImportKey] | None
    ) -> Mapping[ImportKey, ImportAnswer]:
        """Say how sidecars reach each service, and give them what they need for it."""
        if self._out is None:
            reason = "this gateway has no `egress` by its settings: set one, or have another gateway lead calls out"
            return {route.key: Refused(reason) for route in routes}
        return self._out.routes(routes, keep, self._trusted())

    @hookimpl
    def gateway_check(self) -> Sequence[Finding]:
        """Say how the cluster is and which rights are missing."""
        connection = Connection(self._options, self._context.directory)
        try:
            return list(findings(connection, self._options))
        finally:
            connection.close()

    @hookimpl
    def gateway_close(self) -> None:
        """Close the connections. What stands in the cluster stays, for the next start."""
        if self._in is not None:
            self._in.close()
        self.connection.close()

    def _ingress(self, stop: Stop) -> Iterator[Ingress | None]:
        options = self._options.ingress
        if options is None:
            yield None
            while not stop.wait(5.0):
                pass
            return
        yield from follow(self.connection, options, self._options.watch.total_seconds(), lambda: self._names, stop)

    def _trusted(self) -> Trust:
        if self._trust is None:
            message = "the gateway has no certificate and no bundles yet"
            raise GatewayUnavailable(message)
        return self._trust

    def _apis(self) -> GatewayApis:
        if self._known is None:
            self._known = demanded(tried(lambda: apis_of(self.connection)))
        return self._known


def apis_of(connection: Connection) -> GatewayApis:
    """Which versions of Istio's groups the cluster serves; `GatewayUnavailable` where one is missing."""
    newest = {}
    for group in (NETWORKING, SECURITY):
        served = served_versions(connection, group)
        newest[group] = next((each for each in OF_ISTIO if each in served), "")
        if not newest[group]:
            message = f"the cluster does not serve {group}"
            raise GatewayUnavailable(message, mend="install Istio's CRDs")
    return GatewayApis(newest[NETWORKING], newest[SECURITY])


def _usable(trust: Trust) -> Trust:
    """`trust` without the peers whose bundles are none; `GatewayUnavailable` when our own certificate is."""
    try:
        certificates.require_pair(trust.certificate, trust.key)
    except ValueError as error:
        message = f"the mesh's certificate cannot be used: {error}"
        raise GatewayUnavailable(message) from error
    peers = []
    for peer in trust.peers:
        try:
            certificates.require_authorities(peer.bundle)
        except ValueError as error:
            _log.warning("a peer's bundle cannot be used", peer=peer.peer, cause=str(error))
        else:
            peers.append(peer)
    return replace(trust, peers=tuple(peers))
