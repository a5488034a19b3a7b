"""Agents as processes of their own, talked to as an operator does: signals, files, the admin socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hamlet_core.agent.admin import AgentUnreachable, call
from tests.support.meshes import PATIENCE, Mesh


def wait_until(check: Callable[[], Any], *, what: str = "", within: float = PATIENCE) -> Any:
    """Wait until `check()` is true and return what it gave; fail, saying `what`, when it never is."""
    deadline = time.monotonic() + within
    while True:
        if found := check():
            return found
        if time.monotonic() > deadline:
            message = f"not within {within:g} s: {what or check}"
            raise AssertionError(message)
        time.sleep(0.01)


class AgentProcess:
    """`hamlet run` of one mesh."""

    program: Sequence[str] = (sys.executable, "-m", "hamlet_core")
    """What is typed as `hamlet`."""

    def __init__(self, mesh: Mesh, *arguments: str) -> None:
        self.mesh = mesh
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Everything it wrote to standard error, over all its starts."""
        return self.mesh.folder / "agent.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> AgentProcess:
        """Start it; does not wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, "-c", str(self.mesh.config_path), "run", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it and wait; returns its exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(number)
        return self._process.wait(timeout=PATIENCE)

    def ask(self, method: str, **request: Any) -> dict[str, Any]:
        """Ask it over its admin socket."""
        return call(self.mesh.folder / "hamlet.sock", method, request)

    def status(self) -> dict[str, Any]:
        """Its status; empty while it does not answer."""
        try:
            return self.ask("status")
        except AgentUnreachable:
            return {}

    def peer(self, name: str) -> dict[str, Any]:
        """What its status says of a peer; empty while it does not answer."""
        return next((peer for peer in self.status().get("peers", []) if peer["name"] == name), {})

    def state(self, peer: str, way: str, *states: str, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until a peer's import or export is in one of `states`."""
        found: dict[str, Any] = wait_until(
            lambda: (now := self.peer(peer)) and now[way]["state"] in states and now,
            what=f"{way} of {peer} {states}; it is {self.peer(peer)}; log: {self.log.read_text()[-3000:]}",
            within=within,
        )
        return found
