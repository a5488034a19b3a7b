"""A process of ours: started, started again with growing pauses when it ends, ended with us."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

_FIRST_PAUSE, _LONGEST_PAUSE, _STABLE = 0.25, 30.0, 60.0
"""Seconds: between an end and the next start, doubling, and the life after which the first one counts again."""
_PATIENCE = 5.0
_LARGEST_LOG = 16 * 1024 * 1024

_log = structlog.get_logger(__name__)


class Supervised:
    """A program that is kept running from `start` to `stop`; what it prints is appended to `log`.

    It is started on a thread that lives as long as this object does: the kernel ends it with that thread.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = tuple(command)
        self._log = log
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.last_end = ""
        """How it ended the last time, in words; empty while it never has."""

    @property
    def pid(self) -> int | None:
        """The process that runs now, or None."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it, if that is not done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_running, name="envoy", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it, by force where it does not end in five seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2 * _PATIENCE)

    def _keep_running(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._run_once()
            except OSError as error:
                self.last_end = f"it could not be started: {error}"
            if self._stopping.is_set():
                return
            _log.warning("Envoy ended and is started again", cause=self.last_end, pause=pause, log=str(self._log))
            if time.monotonic() - begun > _STABLE:
                pause = _FIRST_PAUSE
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _run_once(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._log.stat().st_size > _LARGEST_LOG:
                self._log.replace(self._log.with_name(f"{self._log.name}.1"))
        launcher = (sys.executable, "-m", "hamlet_envoy.launch", str(os.getpid()))
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603 - the program is the operator's choice
                (*launcher, *self._command), stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor
            )
        finally:
            os.close(descriptor)
        self._process = process
        while process.poll() is None and not self._stopping.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        if process.returncode is None:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        code = process.returncode
        self.last_end = f"signal {-code}" if code < 0 else f"exit code {code}"
