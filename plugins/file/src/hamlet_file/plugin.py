"""The entry point: says that this distribution provides the adapters of kind `file`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hamlet_core.api import AdapterOptions, AdapterType, hookimpl
from hamlet_file import coordinator
from hamlet_file.registry import FileRegistry


class FileOptions(AdapterOptions):
    """The keys of a registry of kind `file`."""

    path: Path = Field(description="The folder of the mesh: services/ is read, imported/ is written.")


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide the registry and the coordinator."""
    return [
        AdapterType(
            kind="file",
            role="registry",
            options=FileOptions,
            open=lambda options, context: FileRegistry(options.path, context),
            api_version=1,
            summary="a folder of YAML or JSON files",
            backend="hamlet_file.verification:registry",
        ),
        coordinator.ADAPTER,
    ]
