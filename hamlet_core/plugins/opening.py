"""From a registry in hamlet.yaml to its open port: options validated by the adapter's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hamlet_core.api import AdapterContext, AdapterOptions, AdapterType, ConfigError, Wrapped
from hamlet_core.config.model import Registry
from hamlet_core.config.problems import dotted
from hamlet_core.plugins.attribution import attributed
from hamlet_core.plugins.loader import Plugins
from hamlet_core.plugins.port import RegistryPort


def open_registry(name: str, registry: Registry, plugins: Plugins, context: AdapterContext) -> RegistryPort:
    """Open the registry `name`: validate its options, make its adapter, put the wrappers around it.

    It does not wait for the backend. Raises `ConfigError` that names the key (`registries.west.path`), and
    `AdapterError` for an adapter or wrapper that breaks the contract. Call it on the event loop.
    """
    adapter_type = plugins.adapters[registry.kind]
    options = validate_options(name, registry, adapter_type, context.directory)
    wrappers = plugins.wrappers(Wrapped(name=name, kind=registry.kind, role=adapter_type.role))
    try:
        adapter = adapter_type.open(options, context)
    except Exception as error:
        raise attributed(f"registry {name!r} ({registry.kind})", error) from error
    return RegistryPort(name, adapter_type, adapter, wrappers)


def validate_options(name: str, registry: Registry, adapter_type: AdapterType, directory: Path) -> AdapterOptions:
    """Return the adapter's options, every relative path in them made absolute from `directory`.

    Raises `ConfigError` that names every wrong key and repeats no value: one of them may be a secret.
    """
    try:
        options = adapter_type.options.model_validate(registry.options)
    except ValidationError as error:
        faults = [
            (dotted(("registries", name, *detail["loc"])), detail["type"], detail["msg"])
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    else:
        anchored: AdapterOptions = _anchor(options, directory)
        return anchored
    # Outside the handler, so that no traceback shows pydantic's own error, which quotes values.
    message = "; ".join(
        f"{key}: {'unknown key' if kind == 'extra_forbidden' else said}" for key, kind, said in faults
    )
    known = ", ".join(adapter_type.options.model_fields) or "none"
    raise ConfigError(message, mend=f"options of kind {registry.kind!r}: {known}")


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
