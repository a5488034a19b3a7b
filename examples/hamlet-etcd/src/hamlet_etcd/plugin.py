"""The entry point: says that this distribution provides the adapter of kind `etcd`."""

from __future__ import annotations

from hamlet_core.api import AdapterContext, AdapterType, ConfigError, hookimpl

from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.registry import EtcdRegistry


def open_registry(options: EtcdOptions, context: AdapterContext) -> object:
    """Make the adapter; it does not wait for the backend. Options that contradict each other are a `ConfigError`."""
    if (options.user is None) != (options.password is None):
        raise ConfigError("`user` and `password` go together", mend="give both, or neither")
    if (options.certificate is None) != (options.key is None):
        raise ConfigError("`certificate` and `key` go together", mend="give both, or neither")
    if options.address.startswith("http:") and (options.ca or options.certificate):
        raise ConfigError(f"`ca` and `certificate` need an https address, not {options.address}")
    return EtcdRegistry(options, context)


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide the adapter."""
    return [
        AdapterType(
            kind="etcd",
            role="registry",
            options=EtcdOptions,
            open=open_registry,
            api_version=1,
            summary="keys below a prefix of etcd",
            backend="hamlet_etcd.verification:make",
        )
    ]
