"""Plugins in packages of their own, beside what is installed, and the command `hamlet` that meets them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

COMMAND = """
    import click
    from hamlet_core.api import hookimpl

    @hookimpl
    def hamlet_commands():
        return [click.Command("{name}", callback=lambda: click.echo("{said}"))]
"""
GATEWAY = """
    from hamlet_core.api import AdapterOptions, AdapterType, hookimpl

    @hookimpl
    def hamlet_adapters():
        return [
            AdapterType(
                kind="door", role="gateway", options=AdapterOptions, api_version=1, open=object, summary="a door"
            )
        ]
"""
CONFIG = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: a.crt, key: a.key}
registries: {main: {kind: file, path: mesh}}
"""
Hamlet = Callable[..., "subprocess.CompletedProcess[str]"]
Install = Callable[..., None]


def listed(hamlet: Hamlet) -> dict[str, dict[str, object]]:
    """What `hamlet plugins` says, by the name of the plugin."""
    done = hamlet("plugins", "--json")
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert done.returncode == any(each["problem"] for each in found.values()), done.stderr
    return found
