from google.protobuf import any_pb2 as _any_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamRequest(_message.Message):
    __slots__ = ("resource_url", "response_nonce", "status")
    RESOURCE_URL_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_NONCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    resource_url: str
    response_nonce: str
    status: _status_pb2.Status
    def __init__(self, resource_url: _Optional[str] = ..., response_nonce: _Optional[str] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("nonce", "resource_url", "resource", "operation")
    class Operation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[StreamResponse.Operation]
        CREATE: _ClassVar[StreamResponse.Operation]
        UPDATE: _ClassVar[StreamResponse.Operation]
        DELETE: _ClassVar[StreamResponse.Operation]
    UNKNOWN: StreamResponse.Operation
    CREATE: StreamResponse.Operation
    UPDATE: StreamResponse.Operation
    DELETE: StreamResponse.Operation
    NONCE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_URL_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    resource_url: str
    resource: _any_pb2.Any
    operation: StreamResponse.Operation
    def __init__(self, nonce: _Optional[str] = ..., resource_url: _Optional[str] = ..., resource: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., operation: _Optional[_Union[StreamResponse.Operation, str]] = ...) -> None: ...
