"""What an adapter imports: the model, the changes, the hooks, the errors. Nothing else is public.

An adapter package imports this module (and `hamlet_core.api.testing` in its tests) alone; every other
module of `hamlet_core` may change without notice.
"""

from hamlet_core.api.changes import (
    Batch,
    ImportChange,
    Outcome,
    Remove,
    RemoveImport,
    Snapshot,
    Status,
    Upsert,
    WriteImport,
)
from hamlet_core.api.errors import (
    AdapterError,
    ConfigError,
    HamletError,
    InvalidService,
    RegistryUnavailable,
)
from hamlet_core.api.hookspecs import (
    API_VERSION,
    PROJECT,
    AdapterContext,
    AdapterOptions,
    AdapterType,
    AgentSpec,
    Finding,
    RegistrySpec,
    Severity,
    Stop,
    Wrapped,
    hookimpl,
)
from hamlet_core.api.model import (
    Endpoint,
    FederatedService,
    ImportedService,
    ImportKey,
    Instance,
    LocalService,
    Mark,
    Protocol,
    ServicePort,
    StandingImport,
)
from hamlet_core.api.values import Duration, format_duration, parse_duration

__all__ = [
    "API_VERSION",
    "PROJECT",
    "AdapterContext",
    "AdapterError",
    "AdapterOptions",
    "AdapterType",
    "AgentSpec",
    "Batch",
    "ConfigError",
    "Duration",
    "Endpoint",
    "FederatedService",
    "Finding",
    "HamletError",
    "ImportChange",
    "ImportKey",
    "ImportedService",
    "Instance",
    "InvalidService",
    "LocalService",
    "Mark",
    "Outcome",
    "Protocol",
    "RegistrySpec",
    "RegistryUnavailable",
    "Remove",
    "RemoveImport",
    "ServicePort",
    "Severity",
    "Snapshot",
    "StandingImport",
    "Status",
    "Stop",
    "Upsert",
    "Wrapped",
    "WriteImport",
    "format_duration",
    "hookimpl",
    "parse_duration",
]
