"""A real etcd for the tests: started on loopback with a folder of its own, and handled by its pid."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import SecretStr

from hamlet_etcd.calls import Calls, Unreachable
from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.store import Store

READY_SECONDS = 60.0


class Server:
    """One etcd. The binary is that of $PATH: Debian's package `etcd-server` has it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="etcd-"))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it on the port it had, or on a free one, and wait until it answers."""
        binary = shutil.which("etcd")
        assert binary, "etcd is not in $PATH: install Debian's etcd-server, or download a release of etcd"
        self.port = self.port or _free_port()
        peer = f"http://127.0.0.1:{_free_port()}"
        arguments = ["--name=t", f"--data-dir={self.folder / 'data'}", f"--initial-cluster=t={peer}"]
        arguments += [f"--listen-client-urls={self.address}", f"--advertise-client-urls={self.address}"]
        arguments += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        store = Store(EtcdOptions(address=self.address))
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                store.list("ready")
            except Unreachable as error:
                if "user name is empty" in str(error):  # it is there, and asks who we are
                    break
                assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, "etcd does not answer"
                time.sleep(0.05)
            else:
                break
        store.close()

    def kill(self) -> None:
        """End it without a chance to say goodbye; its data stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Be gone for a while."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Be there and say nothing, as behind a cable that somebody has pulled."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    @contextmanager
    def asking(self) -> Iterator[EtcdOptions]:
        """Answer nobody but root for a while, whose options these are."""
        options = EtcdOptions(address=self.address, user="root", password=SecretStr("secret"))
        everybody, root = Calls(EtcdOptions(address=self.address)), Calls(options)
        try:
            everybody.call("auth/user/add", {"name": "root", "password": "secret"})
            everybody.call("auth/role/add", {"name": "root"})
            everybody.call("auth/user/grant", {"user": "root", "role": "root"})
            everybody.call("auth/enable", {})
            try:
                yield options
            finally:
                root.call("auth/disable", {})
                everybody.call("auth/user/delete", {"name": "root"})
                everybody.call("auth/role/delete", {"role": "root"})
        finally:
            everybody.close()
            root.close()

    def close(self) -> None:
        """End it and remove what it left on disk."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    """A port below those of outgoing connections, one of which could sit on it while the server is away."""
    while True:
        port = secrets.choice(range(10_240, 32_768))
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
