"""From a registry, gateway or coordinator in hamlet.yaml to its open port: options are of the adapter's own model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hamlet_core.api import AdapterContext, AdapterOptions, AdapterType, ConfigError, Wrapped, in_words
from hamlet_core.config.driven import Coordinator, Egress, Gateway, Registry
from hamlet_core.config.problems import dotted
from hamlet_core.config.values import Loc
from hamlet_core.plugins.attribution import attributed
from hamlet_core.plugins.coordinator_port import CoordinatorPort
from hamlet_core.plugins.gateway_port import GatewayPort
from hamlet_core.plugins.loader import Plugins
from hamlet_core.plugins.registry_port import RegistryPort


def open_registry(name: str, registry: Registry, plugins: Plugins, context: AdapterContext) -> RegistryPort:
    """Open the registry `name`: validate its options, make its adapter, put the wrappers around it.

    It does not wait for the backend. Raises `ConfigError` that names the key (`registries.west.path`), and
    `AdapterError` for an adapter or wrapper that breaks the contract. Call it on the event loop.
    """
    adapter_type = plugins.adapters[registry.kind]
    title = f"registry {name!r} ({registry.kind})"
    adapter = _opened(title, adapter_type, ("registries", name), registry.options, context)
    wrappers = plugins.wrappers(Wrapped(name=name, kind=registry.kind, role="registry"))
    return RegistryPort(name, adapter_type, adapter, wrappers)


def open_gateway(key: str, gateway: Gateway | Egress, plugins: Plugins, context: AdapterContext) -> GatewayPort:
    """Open the gateway at `key` (`gateway` or `egress`), of a kind that a plugin provides; as `open_registry`."""
    adapter_type = plugins.gateways[gateway.kind]
    adapter = _opened(f"{key} ({gateway.kind})", adapter_type, (key,), gateway.options, context)
    wrappers = plugins.wrappers(Wrapped(name=context.name, kind=gateway.kind, role="gateway"))
    return GatewayPort(key, adapter_type, adapter, wrappers)


def open_coordinator(coordinator: Coordinator, plugins: Plugins, context: AdapterContext) -> CoordinatorPort:
    """Open the coordinator; as `open_registry`."""
    adapter_type = plugins.coordinators[coordinator.kind]
    title = f"coordinator ({coordinator.kind})"
    adapter = _opened(title, adapter_type, ("coordinator",), coordinator.options, context)
    wrappers = plugins.wrappers(Wrapped(name=context.name, kind=coordinator.kind, role="coordinator"))
    return CoordinatorPort(adapter_type, adapter, wrappers)


def _opened(
    title: str, adapter_type: AdapterType, loc: Loc, given: Mapping[str, Any], context: AdapterContext
) -> object:
    options = validate_options(loc, given, adapter_type, context.directory)
    try:
        return adapter_type.open(options, context)
    except Exception as error:
        raise attributed(title, error) from error


def validate_options(
    loc: Loc, given: Mapping[str, Any], adapter_type: AdapterType, directory: Path
) -> AdapterOptions:
    """Return the adapter's options, every relative path in them made absolute from `directory`.

    Raises `ConfigError` that names every wrong key and repeats no value: one of them may be a secret.
    """
    try:
        options = adapter_type.options.model_validate(given)
    except ValidationError as error:
        faults = [
            f"{dotted((*loc, *detail['loc']))}: {in_words(detail)[0]}"
            for detail in error.errors(include_url=False, include_input=False)
        ]
    else:
        anchored: AdapterOptions = _anchor(options, directory)
        return anchored
    # Outside the handler, so that no traceback shows pydantic's own error, which quotes values.
    known = ", ".join(adapter_type.options.model_fields) or "none"
    raise ConfigError("; ".join(faults), mend=f"options of kind {adapter_type.kind!r}: {known}")


def _anchor(value: Any, directory: Path) -> Any:
    """Make relative paths absolute, however deep they lie."""
    if isinstance(value, Path):
        return directory / value
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={key: _anchor(getattr(value, key), directory) for key in type(value).model_fields}
        )
    if isinstance(value, tuple | list):
        return type(value)(_anchor(each, directory) for each in value)
    if isinstance(value, dict):
        return {key: _anchor(each, directory) for key, each in value.items()}
    return value
