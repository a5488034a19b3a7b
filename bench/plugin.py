"""A plugin for measured agents: kind `bench`, a registry in memory, and a clock around every registry's writes.

The registry is `hamlet_core.api.testing.MemoryRegistry`: a write costs a digest and a dictionary. `install` makes
the plugin known to the plugin loader of this process as an installed distribution would be.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from hamlet_core.api import (
    AdapterOptions,
    AdapterType,
    ImportChange,
    Outcome,
    Status,
    Wrapped,
    WriteImport,
    hookimpl,
)
from hamlet_core.api.testing import MemoryRegistry


class Backends:
    """What this process measures: the registry behind kind `bench`, and when which service was written."""

    memory = MemoryRegistry()
    written: dict[tuple[str, str], float] = {}  # noqa: RUF012 - one process, one measurement
    """(service, first tag) to the monotonic time at which the registry had it."""


@hookimpl
def hamlet_adapters() -> list[AdapterType]:
    """Provide kind `bench`, on the registry that stands when it is opened."""
    return [
        AdapterType(
            kind="bench",
            role="registry",
            options=AdapterOptions,
            open=lambda options, context: Backends.memory.open(context),  # noqa: ARG005 - there are no options
            api_version=1,
            summary="a registry in memory",
        )
    ]


@hookimpl
def hamlet_wrappers(adapter: Wrapped) -> object:  # noqa: ARG001 - every registry gets the clock
    """Put the clock around it."""
    return Clock()


class Clock:
    """Notes when a write had returned."""

    @hookimpl(wrapper=True)
    def registry_apply(
        self, changes: Sequence[ImportChange]
    ) -> Generator[None, Sequence[Outcome], Sequence[Outcome]]:
        """See `RegistrySpec`."""
        outcomes = yield
        now = time.monotonic()
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(change, WriteImport) and outcome.status is Status.APPLIED:
                service = change.service.service
                Backends.written[service.name, "".join(service.tags[:1])] = now
        return outcomes


def install(folder: Path) -> None:
    """Write the metadata of a distribution into `folder` and put that on the path."""
    metadata = folder / "hamlet_bench-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hamlet-bench\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text("[hamlet]\nbench = bench.plugin\n")
    sys.path.append(str(folder))
