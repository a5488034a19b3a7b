"""The entry point: stands an audit around every registry."""

from __future__ import annotations

import os
from pathlib import Path

from hamlet_audit.audit import Audit
from hamlet_audit.trail import Trail
from hamlet_core.api import ConfigError, Wrapped, hookimpl

VARIABLE = "HAMLET_AUDIT_FILE"


@hookimpl
def hamlet_wrappers(adapter: Wrapped) -> object | None:
    """Wrap registries; a gateway writes no entries. Raises `ConfigError` where there is no trail to write.

    It makes no file: whoever checks a configuration asks too, and the file would be theirs and not the agent's.
    """
    if adapter.role != "registry":
        return None
    path = os.environ.get(VARIABLE)
    if not path:
        message = f"the audit does not know where to write: {VARIABLE} is not set"
        raise ConfigError(message, mend=f"set {VARIABLE} to a file, or take `audit` out of `plugins`")
    trail = Trail(Path(path))
    try:
        trail.check()
    except OSError as error:
        message = f"the audit cannot write {path} ({VARIABLE}): {error.strerror}"
        raise ConfigError(message, mend="name a file that the agent's user may write") from error
    return Audit(adapter, trail)
