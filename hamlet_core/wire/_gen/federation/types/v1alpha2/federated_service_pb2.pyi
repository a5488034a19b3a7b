from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FederatedService(_message.Message):
    __slots__ = ("name", "description", "tags", "labels", "fqdn", "endpoints", "sans", "instances")
    class Endpoint(_message.Message):
        __slots__ = ("address", "port", "labels", "description")
        ADDRESS_FIELD_NUMBER: _ClassVar[int]
        PORT_FIELD_NUMBER: _ClassVar[int]
        LABELS_FIELD_NUMBER: _ClassVar[int]
        DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
        address: str
        port: int
        labels: _containers.RepeatedScalarFieldContainer[str]
        description: str
        def __init__(self, address: _Optional[str] = ..., port: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ...) -> None: ...
    class Instance(_message.Message):
        __slots__ = ("id", "protocol", "metadata", "endpoint_selector", "description")
        class MetadataEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        ID_FIELD_NUMBER: _ClassVar[int]
        PROTOCOL_FIELD_NUMBER: _ClassVar[int]
        METADATA_FIELD_NUMBER: _ClassVar[int]
        ENDPOINT_SELECTOR_FIELD_NUMBER: _ClassVar[int]
        DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
        id: str
        protocol: str
        metadata: _containers.ScalarMap[str, str]
        endpoint_selector: _containers.RepeatedScalarFieldContainer[str]
        description: str
        def __init__(self, id: _Optional[str] = ..., protocol: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., endpoint_selector: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FQDN_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    SANS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    fqdn: str
    endpoints: _containers.RepeatedCompositeFieldContainer[FederatedService.Endpoint]
    sans: _containers.RepeatedScalarFieldContainer[str]
    instances: _containers.RepeatedCompositeFieldContainer[FederatedService.Instance]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., fqdn: _Optional[str] = ..., endpoints: _Optional[_Iterable[_Union[FederatedService.Endpoint, _Mapping]]] = ..., sans: _Optional[_Iterable[str]] = ..., instances: _Optional[_Iterable[_Union[FederatedService.Instance, _Mapping]]] = ...) -> None: ...
