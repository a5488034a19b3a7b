"""The custom resources of Istio that the adapter uses: small definitions of our own, or Istio's from a file.

`$HAMLET_ISTIO_CRDS` names a file of Istio's definitions (as its releases have them); without it the ones below
stand in: the same groups, versions and names, and the fields that the adapter reads or writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

NETWORKING, SECURITY = "networking.istio.io", "security.istio.io"
USED = {
    "serviceentries": NETWORKING,
    "destinationrules": NETWORKING,
    "workloadentries": NETWORKING,
    "gateways": NETWORKING,
    "virtualservices": NETWORKING,
    "authorizationpolicies": SECURITY,
}
"""The group of each kind, by its plural."""

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "integer"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_LABELS: dict[str, Any] = {"type": "object", "additionalProperties": _TEXT}


def _record(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return found | ({"required": list(required)} if required else {})


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _ruled(schema: dict[str, Any], *rules: tuple[str, str]) -> dict[str, Any]:
    """`schema` with rules in CEL, each with its message (Istio's definitions say the same)."""
    return schema | {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def _choice(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


_WORKLOAD = _record(
    address=_TEXT,
    ports={"type": "object", "additionalProperties": _NUMBER},
    labels=_LABELS,
    network=_TEXT,
    locality=_TEXT,
    weight=_NUMBER,
    serviceAccount=_TEXT,
)
_TLS = _record(
    mode=_choice("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"),
    clientCertificate=_TEXT,
    privateKey=_TEXT,
    caCertificates=_TEXT,
    credentialName=_TEXT,
    subjectAltNames=_TEXTS,
    sni=_TEXT,
    insecureSkipVerify={"type": "boolean"},
)
_SELECTOR = _record(
    matchLabels=_ruled(_LABELS, ("self.all(key, key.size() != 0 && !key.contains('*'))", "a label has no wildcard"))
)
_WAY = _record(
    route=_list(_record("destination", destination=_record("host", host=_TEXT, port=_record(number=_NUMBER))))
)
_SPECS = {
    ("ServiceEntry", "serviceentry", "serviceentries"): _record(
        "hosts",
        hosts=_list(_ruled(_TEXT, ("self != '*'", "a host cannot be '*'"))),
        addresses=_TEXTS,
        ports=_ruled(
            _list(_record("number", "name", number=_NUMBER, name=_TEXT, protocol=_TEXT, targetPort=_NUMBER)),
            ("self.all(one, self.exists_one(other, one.number == other.number))", "a port number is there twice"),
        ),
        location=_choice("MESH_EXTERNAL", "MESH_INTERNAL"),
        resolution=_choice("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"),
        endpoints=_list(_WORKLOAD),
        workloadSelector=_record(labels=_LABELS),
        exportTo=_TEXTS,
        subjectAltNames=_TEXTS,
    ),
    ("DestinationRule", "destinationrule", "destinationrules"): _record(
        "host",
        host=_TEXT,
        exportTo=_TEXTS,
        workloadSelector=_SELECTOR,
        trafficPolicy=_record(tls=_TLS, portLevelSettings=_list(_record(port=_record(number=_NUMBER), tls=_TLS))),
    ),
    ("WorkloadEntry", "workloadentry", "workloadentries"): _WORKLOAD,
    ("Gateway", "gateway", "gateways"): _record(
        selector=_LABELS,
        servers=_list(
            _record(
                "port",
                "hosts",
                port=_record("number", "protocol", "name", number=_NUMBER, protocol=_TEXT, name=_TEXT),
                hosts=_TEXTS,
                tls=_ruled(
                    _record(
                        mode=_choice("PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL"),
                        credentialName=_TEXT,
                        credentialNames=_TEXTS,
                        minProtocolVersion=_choice("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
                    ),
                    ("!(has(self.credentialName) && has(self.credentialNames))", "one credential, or several"),
                ),
            )
        ),
    ),
    ("VirtualService", "virtualservice", "virtualservices"): _record(
        hosts=_TEXTS, gateways=_TEXTS, exportTo=_TEXTS, http=_list(_WAY), tcp=_list(_WAY)
    ),
    ("AuthorizationPolicy", "authorizationpolicy", "authorizationpolicies"): _record(
        selector=_SELECTOR,
        action=_choice("ALLOW", "DENY", "AUDIT", "CUSTOM"),
        rules=_list(
            _record(
                **{"from": _list(_record(source=_record(principals=_TEXTS, notPrincipals=_TEXTS)))},
                when=_list(_record("key", key=_TEXT, values=_TEXTS, notValues=_TEXTS)),
            )
        ),
    ),
}


def definitions() -> list[dict[str, Any]]:
    """The definitions to create in the API server."""
    file = os.environ.get("HAMLET_ISTIO_CRDS")
    if file:
        with Path(file).open() as stream:
            found = [each for each in yaml.load_all(stream, Loader=yaml.CSafeLoader) if each]
        wanted = {f"{plural}.{group}" for plural, group in USED.items()}
        return [each for each in found if each["metadata"]["name"] in wanted]
    return [_definition(*names, spec) for names, spec in _SPECS.items()]


def _definition(kind: str, singular: str, plural: str, spec: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}}
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}}
        for name in ("v1", "v1beta1")
    ]
    group = USED[plural]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": singular},
            "scope": "Namespaced",
            "versions": versions,
        },
    }
