"""What the gateway remembers from one run to the next: its routes, their ports, and the epochs of its peers.

The files that Envoy watches cannot be read back: a bundle that changes needs the routes they were made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hamlet_core.api import GatewayUnavailable, ImportRoute, PublishRoute
from hamlet_envoy.atomic import write_file
from hamlet_envoy.trust import Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """Everything, empty at first.

    `ports` are by the name of the way out, `last_port` is the one that was given last.
    """

    published: tuple[PublishRoute, ...] = ()
    imported: tuple[ImportRoute, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    last_port: int = 0
    epochs: Mapping[str, Epoch] = field(default_factory=dict)


_FORM = TypeAdapter(Remembered)
FILE = "routes.json"


def load(directory: Path) -> Remembered:
    """Read it; nothing is remembered where there is no file.

    Raises `GatewayUnavailable` for a file that cannot be read: starting anew would give services other ports.
    """
    path = directory / FILE
    try:
        return _FORM.validate_json(path.read_bytes())
    except FileNotFoundError:
        return Remembered()
    except (OSError, ValidationError) as error:
        message = f"{path}, which remembers the ports of imported services, cannot be read: {error}"
        raise GatewayUnavailable(message, mend="repair it, or remove it: ports are then given anew") from error


def save(directory: Path, remembered: Remembered) -> None:
    """Write it, if it changed. Raises `OSError`."""
    write_file(directory / FILE, _FORM.dump_json(remembered))
