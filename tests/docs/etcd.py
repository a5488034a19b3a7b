"""A real etcd for the blocks that are typed beside one, and etcdctl that finds it. No tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.backends.not_run import needed
from tests.backends.pki import Pki
from tests.docs.typing_blocks import surroundings
from tests.support.ports import free_ports

PATIENCE = 60.0


@contextmanager
def running_etcd(pki: Pki | None = None) -> Iterator[str]:
    """A real etcd with nothing in it, which speaks TLS where it has a certificate; its address."""
    binary, etcdctl = needed("a real etcd", "etcd", "etcdctl")
    folder = Path(tempfile.mkdtemp(prefix="etcd-"))
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    command = [str(binary), "--name=t", f"--data-dir={folder / 'data'}", f"--initial-cluster=t={peer}"]
    asks = []
    if pki is not None:
        client = client.replace("http:", "https:")
        command += [f"--cert-file={pki.server[0]}", f"--key-file={pki.server[1]}"]
        asks = [f"--cacert={pki.ca}"]
    command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}", "--log-level=error"]
    command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", "--unsafe-no-fsync"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    client = client.replace("127.0.0.1", "localhost") if pki is not None else client
    try:
        health = [str(etcdctl), *asks, f"--endpoints={client}", "endpoint", "health"]
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(health, capture_output=True, check=False, timeout=60).returncode:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
        yield client
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def with_etcdctl(address: str, **more: str) -> dict[str, str]:
    """A machine on which etcdctl finds the etcd at `address`."""
    (etcdctl,) = needed("etcdctl", "etcdctl")
    return surroundings(etcdctl.parent, ETCDCTL_ENDPOINTS=address, **more)
