"""What `hamlet check` says of an Istio gateway: the API, Istio's definitions, each right, and the Service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hamlet_core.api import Finding, HamletError, Severity
from hamlet_istio.check import right_finding, version_finding
from hamlet_istio.connection import Connection, Refusal
from hamlet_istio.gateway_options import IngressOptions, IstioGatewayOptions
from hamlet_istio.gateway_rights import needed_by
from hamlet_istio.ingress_address import endpoints_of
from hamlet_istio.resources import NETWORKING, NODES, OF_ISTIO, SECURITY, SERVICES, served_kinds, served_versions

Object = dict[str, Any]
_WRITTEN = {NETWORKING: ("gateways", "virtualservices"), SECURITY: ("authorizationpolicies",)}


def findings(connection: Connection, options: IstioGatewayOptions) -> Iterator[Finding]:
    """Look at one thing after the other; stop at the first that makes the rest pointless."""
    try:
        yield version_finding(connection.host, connection.call("GET", "/version"))
        if options.ingress is not None:
            yield from _definitions(connection)
        places: dict[str, Sequence[str | None]] = {
            "ingress": (options.ingress.namespace,) if options.ingress else (),
            "behind": (None,),
            "cluster": (None,),
            "callers": sorted(options.egress.consumers) if options.egress else (),
        }
        for right in needed_by(options):
            for namespace in places[right.place]:
                for verb in right.verbs:
                    yield right_finding(connection, right, verb, namespace, "hamlet_istio.gateway_rights")
        if options.ingress is not None:
            yield from _address(connection, options.ingress)
    except HamletError as error:
        yield Finding(
            subject="API server", severity=Severity.ERROR, message=str(error), mend=getattr(error, "mend", "")
        )


def _definitions(connection: Connection) -> Iterator[Finding]:
    for group, wanted in _WRITTEN.items():
        served = served_versions(connection, group)
        version = next((each for each in OF_ISTIO if each in served), "")
        kinds = served_kinds(connection, f"{group}/{version}") if version else {}
        for kind in wanted:
            subject = f"CRD {kind}.{group}"
            if "create" in kinds.get(kind, ()):
                yield Finding(subject=subject, severity=Severity.OK, message=f"served in {', '.join(served)}")
            else:
                yield Finding(
                    subject=subject, severity=Severity.ERROR, message="it is not served", mend="install Istio's CRDs"
                )


def _address(connection: Connection, options: IngressOptions) -> Iterator[Finding]:
    subject = f"Service {options.namespace}/{options.service}"
    if options.advertise:
        yield Finding(subject=subject, severity=Severity.OK, message=f"reached at {', '.join(options.advertise)}")
        return
    try:
        services = _by_name(connection.listing(SERVICES.path(options.namespace))[0])
        nodes = _by_name(connection.listing(NODES.path(None))[0]) if options.address == "node_port" else {}
    except Refusal as refusal:
        if refusal.status != 403:  # the findings on rights speak of it
            raise
        return
    service = services.get(options.service)
    found = endpoints_of(service, nodes, options)
    if isinstance(found, str):
        # An address may still come; a Service that is not there, or has no such port, is a setting that is wrong.
        severity = Severity.WARNING if "has no address yet" in found else Severity.ERROR
        yield Finding(subject=subject, severity=severity, message=found, mend="see its status with kubectl")
        return
    places = ", ".join(f"{each.address}:{each.port}" for each in found)
    yield Finding(subject=subject, severity=Severity.OK, message=f"reached at {places}")
    chosen = ((service or {}).get("spec") or {}).get("selector") or {}
    if not options.selector.items() <= chosen.items():
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(options.selector.items()))
        message = f"the Service selects {chosen or 'no pods'}, and `selector` is {wanted}: they may be other pods"
        yield Finding(
            subject=f"{subject} selector",
            severity=Severity.WARNING,
            message=message,
            mend="set `selector` to labels of the pods that the Service leads to",
        )


def _by_name(objects: Sequence[Object]) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects}
