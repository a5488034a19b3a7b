"""Envoy's API v2, as far as Consul 1.8 speaks it to a terminating gateway, and the same said in v3. It opens nothing.

The messages know the fields that were seen and no others: what is not understood is an error, and never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    json_format,
    message,
    message_factory,
    struct_pb2,
    unknown_fields,
    wrappers_pb2,
)

from tests.backends.not_understood import NotUnderstoodError

Json: TypeAlias = dict[str, Any]

CLUSTER, ENDPOINTS, LISTENER = "Cluster", "ClusterLoadAssignment", "Listener"
PREFIX = "type.googleapis.com/envoy.api.v2."
_PACKAGE = "hamlet.test.envoy_v2"
_GOOGLE = {"Duration": duration_pb2, "Struct": struct_pb2, "BoolValue": wrappers_pb2, "UInt32Value": wrappers_pb2}
_SCALARS = {"string", "uint32", "bool"}
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    # the number of each field, its name and type; `*` where there may be several
    "Node": {1: "id string", 2: "cluster string"},
    "DiscoveryRequest": {
        1: "version_info string",
        2: "node Node",
        3: "resource_names string*",
        4: "type_url string",
        5: "response_nonce string",
    },
    "DiscoveryResponse": {1: "version_info string", 2: "resources Any*", 4: "type_url string", 5: "nonce string"},
    "Cluster": {
        1: "name string",
        2: "type uint32",
        3: "eds_cluster_config EdsClusterConfig",
        4: "connect_timeout Duration",
        11: "tls_context UpstreamTlsContext",
        19: "outlier_detection Empty",
    },
    "Empty": {},
    "EdsClusterConfig": {1: "eds_config ConfigSource"},
    "ConfigSource": {3: "ads Empty"},
    "UpstreamTlsContext": {1: "common_tls_context CommonTlsContext", 2: "sni string"},
    "CommonTlsContext": {
        1: "tls_params Empty",
        2: "tls_certificates TlsCertificate*",
        3: "validation_context CertificateValidationContext",
    },
    "TlsCertificate": {1: "certificate_chain DataSource", 2: "private_key DataSource"},
    "DataSource": {1: "filename string", 3: "inline_string string"},
    "CertificateValidationContext": {1: "trusted_ca DataSource", 9: "match_subject_alt_names StringMatcher*"},
    "StringMatcher": {1: "exact string"},
    "ClusterLoadAssignment": {1: "cluster_name string", 2: "endpoints LocalityLbEndpoints*"},
    "LocalityLbEndpoints": {2: "lb_endpoints LbEndpoint*"},
    "LbEndpoint": {1: "endpoint Endpoint", 2: "health_status uint32", 4: "load_balancing_weight UInt32Value"},
    "Endpoint": {1: "address Address"},
    "Address": {1: "socket_address SocketAddress"},
    "SocketAddress": {2: "address string", 3: "port_value uint32"},
    "Listener": {
        1: "name string",
        2: "address Address",
        3: "filter_chains FilterChain*",
        9: "listener_filters Filter*",
    },
    "FilterChain": {
        1: "filter_chain_match FilterChainMatch",
        2: "tls_context DownstreamTlsContext",
        3: "filters Filter*",
    },
    "FilterChainMatch": {11: "server_names string*"},
    "DownstreamTlsContext": {
        1: "common_tls_context CommonTlsContext",
        2: "require_client_certificate BoolValue",
    },
    "Filter": {1: "name string", 2: "config Struct"},
}
_FILTERS = "envoy.extensions.filters"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_EDS = 3
_HEALTHY = {0: "UNKNOWN", 1: "HEALTHY", 2: "UNHEALTHY"}


def _descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="hamlet_test_envoy_v2.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(any_pb2.DESCRIPTOR.name)
    file.dependency.extend(dict.fromkeys(module.DESCRIPTOR.name for module in _GOOGLE.values()))
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        made = file.message_type.add(name=name)
        for number, said in fields.items():
            field, _, kind = said.partition(" ")
            several, kind = kind.endswith("*"), kind.rstrip("*")
            one = made.field.add(
                name=field, number=number, label=kinds.LABEL_REPEATED if several else kinds.LABEL_OPTIONAL
            )
            if kind in _SCALARS:
                one.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
            else:
                one.type = kinds.TYPE_MESSAGE
                google = kind in _GOOGLE or kind == "Any"
                one.type_name = f".google.protobuf.{kind}" if google else f".{_PACKAGE}.{kind}"
    return file


_POOL = descriptor_pool.Default()
_POOL.Add(_descriptor())


def message_type(name: str) -> Callable[..., Any]:
    """The class of a message of v2 by its bare name."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def read(kind: str, data: bytes) -> Any:
    """Parse a message. Raises `NotUnderstoodError` for a field that is not known here."""
    parsed = message_type(kind)()
    parsed.ParseFromString(data)
    _require_known(parsed, kind)
    return parsed


def _require_known(one: message.Message, where: str) -> None:
    fields: Any = unknown_fields.UnknownFieldSet(one)
    strange = [field.field_number for field in fields]
    if strange:
        raise NotUnderstoodError(f"{where} has the fields {strange}, which are not known here")
    for field, value in one.ListFields():
        if field.message_type is None or field.message_type.full_name.startswith("google.protobuf."):
            continue
        for each in value if field.is_repeated else [value]:
            _require_known(each, f"{where}.{field.name}")


def _plain(one: message.Message) -> Json:
    plain: Json = json_format.MessageToDict(one, preserving_proto_field_name=True)
    return plain


def cluster(one: Any, assignment: Any | None) -> Json:
    """A cluster with its endpoints in it; without an assignment it has none yet."""
    if one.type != _EDS:
        raise NotUnderstoodError(f"cluster {one.name}: type {one.type}, which is not EDS")
    said = _plain(one)
    del said["type"], said["eds_cluster_config"]
    endpoints = _plain(assignment).get("endpoints", []) if assignment is not None else []
    for locality in endpoints:
        for each in locality.get("lb_endpoints", []):
            each["health_status"] = _HEALTHY[each.get("health_status", 0)]
    said |= {"type": "STATIC", "load_assignment": {"cluster_name": one.name, "endpoints": endpoints}}
    return _secured(said, "UpstreamTlsContext")


def listener(one: Any, filters: Mapping[str, Callable[[Json], Json]]) -> Json:
    """A listener; `filters` make the configuration of each network filter by its name in v2."""
    said = _plain(one)
    said["listener_filters"] = [_listener_filter(each) for each in said.get("listener_filters", [])]
    for chain in said["filter_chains"]:
        _secured(chain, "DownstreamTlsContext")
        chain["filters"] = [_filter(each, filters) for each in chain["filters"]]
    return said


def _secured(said: Json, kind: str) -> Json:
    """Have the TLS context of a cluster or chain, if there is one, as a transport socket of this kind."""
    context = said.pop("tls_context", None)
    if context is None:
        return said
    validation = context["common_tls_context"].get("validation_context", {})
    names = validation.pop("match_subject_alt_names", [])
    if names:  # in v2 a matcher is for a name of any kind
        validation["match_typed_subject_alt_names"] = [
            {"san_type": san, "matcher": each} for each in names for san in ("DNS", "URI", "EMAIL", "IP_ADDRESS")
        ]
    typed = {"@type": f"{_TLS}.{kind}", **context}
    said["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": typed}
    return said


def _listener_filter(said: Json) -> Json:
    if said != {"name": "envoy.listener.tls_inspector"}:
        raise NotUnderstoodError(f"listener filter {said}")
    kind = f"type.googleapis.com/{_FILTERS}.listener.tls_inspector.v3.TlsInspector"
    return {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": kind}}


def _filter(said: Json, known: Mapping[str, Callable[[Json], Json]]) -> Json:
    if said["name"] not in known:
        raise NotUnderstoodError(f"network filter {said['name']}")
    return {"name": said["name"], "typed_config": known[said["name"]](said.get("config", {}))}


def _only(said: Json, where: str, keys: Iterable[str]) -> Json:
    strange = said.keys() - set(keys)
    if strange:
        raise NotUnderstoodError(f"{where} has {sorted(strange)}, which are not known here")
    return said


def sni_cluster(said: Json) -> Json:
    """The cluster is the one that the client's SNI names."""
    _only(said, "sni_cluster", ())
    return {"@type": f"type.googleapis.com/{_FILTERS}.network.sni_cluster.v3.SniCluster"}


def tcp_proxy(said: Json) -> Json:
    """Bytes to a cluster; one without a name is replaced by that of `sni_cluster`."""
    _only(said, "tcp_proxy", ("stat_prefix", "cluster"))
    kind = f"type.googleapis.com/{_FILTERS}.network.tcp_proxy.v3.TcpProxy"
    return {"@type": kind, **said}


def ext_authz(said: Json, agent: str) -> Json:
    """The question whether an intention allows the caller; `agent` is the cluster that is asked."""
    _only(said, "ext_authz", ("stat_prefix", "grpc_service"))
    service = _only(said["grpc_service"], "ext_authz.grpc_service", ("envoy_grpc", "initial_metadata"))
    if service["envoy_grpc"] != {"cluster_name": "local_agent"}:
        raise NotUnderstoodError(f"ext_authz asks {service['envoy_grpc']}")
    kind = f"type.googleapis.com/{_FILTERS}.network.ext_authz.v3.ExtAuthz"
    asked = {**service, "envoy_grpc": {"cluster_name": agent}}
    return {"@type": kind, "stat_prefix": said["stat_prefix"], "grpc_service": asked, "transport_api_version": "V3"}
