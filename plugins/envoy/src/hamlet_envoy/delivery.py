"""Bringing resources to Envoy: files in an order that never leaves a gap, and a wait until each is in force.

File by file: what it needs comes before it, what it no longer needs goes after it. So secrets, then clusters (with
those that go), then listeners, then clusters without those that went, then secrets likewise.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hamlet_core.api import GatewayUnavailable
from hamlet_envoy import xds
from hamlet_envoy.admin import Admin
from hamlet_envoy.atomic import write_file
from hamlet_envoy.bootstrap import CLUSTERS, LISTENERS, LOG
from hamlet_envoy.rendering import Rendered
from hamlet_envoy.xds import Json

_CDS, _LDS = "cluster_manager.cds", "listener_manager.lds"
_WARMING = ("cluster_manager.warming_clusters", "listener_manager.total_listeners_warming")
_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.1


class Rejected(Exception):
    """Envoy refused resources; `culprits` are those that it names, with what it says of each."""

    def __init__(self, reason: str, culprits: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.culprits = culprits


class Delivery:
    """The files of one Envoy. `timeout`: seconds that it may take for one of them."""

    def __init__(self, directory: Path, admin: Admin, timeout: float) -> None:
        self._directory = directory
        self._admin = admin
        self._timeout = timeout

    def prepare(self) -> None:
        """Make sure that Envoy finds the files it watches. Raises `OSError`."""
        for name in (CLUSTERS, LISTENERS):
            if not (self._directory / name).exists():
                write_file(self._directory / name, _file([])[1])

    def put(self, wanted: Rendered) -> None:
        """Make `wanted` all that Envoy has.

        Raises `Rejected` with what stood before in force again, and `GatewayUnavailable` when Envoy does not
        answer; before anything is written if it does not answer at all.
        """
        self._counters(_CDS)
        before = {name: (self._directory / name).read_bytes() for name in (CLUSTERS, LISTENERS)}
        standing: dict[str, Json] = {each["name"]: each for each in json.loads(before[CLUSTERS])["resources"]}
        self._put_secrets(wanted.secrets)
        try:
            self._put(CLUSTERS, _CDS, {**standing, **wanted.clusters}.values(), wanted)
            self._put(LISTENERS, _LDS, wanted.listeners.values(), wanted)
            self._put(CLUSTERS, _CDS, wanted.clusters.values(), wanted)
        except Rejected:
            for name, content in before.items():
                write_file(self._directory / name, content, again=True)
            raise
        self._settle_secrets(wanted.secrets)
        self._drop_secrets(wanted.secrets)

    def _put(self, name: str, stat: str, resources: Iterable[Json], wanted: Rendered) -> None:
        version, content = _file(resources)
        before = self._counters(stat)
        log = self._log_size()
        write_file(self._directory / name, content, again=before.get("version_text") != version)
        end = time.monotonic() + self._timeout
        pause = _FIRST_LOOK
        while True:
            now = self._counters(stat)
            if now.get("version_text") == version and all(now.get(each) == "0" for each in _WARMING):
                return
            if any(_number(now, each) > _number(before, each) for each in ("update_rejected", "update_failure")):
                reason = self._reason(log)
                names = [*wanted.clusters, *wanted.listeners]
                raise Rejected(f"Envoy rejected {name}: {reason}", culprits(reason, names))
            if time.monotonic() > end:
                message = f"Envoy did not take {name} within {self._timeout:g} s"
                raise GatewayUnavailable(message, mend="see its log; it may be short of processors, or warming up")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    def _put_secrets(self, secrets: Mapping[str, Json]) -> None:
        """Write them, and wait for those that Envoy uses already."""
        for name, content in secrets.items():
            write_file(xds.secret_path(name, self._directory), _file([content])[1])
        self._settle_secrets(secrets)

    def _settle_secrets(self, secrets: Mapping[str, Json]) -> None:
        """Wait until every secret that Envoy uses is the present one."""
        versions = {name: _file([content])[0] for name, content in secrets.items()}
        end = time.monotonic() + self._timeout
        pause = _FIRST_LOOK
        while True:
            used = self._admin.stats(r"sds\.[^.]*\.version_text")
            late = [
                name for name, version in versions.items() if used.get(f"sds.{name}.version_text", version) != version
            ]
            if not late:
                return
            if time.monotonic() > end:
                message = f"Envoy did not take {xds.secret_path(late[0], self._directory)} in {self._timeout:g} s"
                raise GatewayUnavailable(message, mend="its log says what is wrong with the certificate or bundle")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    def _drop_secrets(self, secrets: Mapping[str, Json]) -> None:
        kept = {xds.secret_path(name, self._directory) for name in secrets}
        for path in self._directory.glob("sds-*.json"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _counters(self, stat: str) -> dict[str, str]:
        names = "version_text|update_rejected|update_failure"
        found = self._admin.stats(rf"{re.escape(stat)}\.({names})|" + "|".join(map(re.escape, _WARMING)))
        return {name.removeprefix(f"{stat}."): value for name, value in found.items()}

    def _log_size(self) -> int:
        with contextlib.suppress(OSError):
            return (self._directory / LOG).stat().st_size
        return 0

    def _reason(self, begin: int) -> str:
        """What Envoy's log says since `begin`, where it is in the directory."""
        try:
            with (self._directory / LOG).open("rb") as file:
                file.seek(begin)
                said = file.read().decode(errors="replace")
        except OSError:
            said = ""
        return reason_in(said) or "its log says why"


def reason_in(log: str) -> str:
    """The last thing that the log says about a rejected update, its lines joined; empty when it says nothing."""
    marks = list(re.finditer(r"update rejected: |update failure: |[Ff]ilesystem config update failure: ", log))
    if not marks:
        return ""
    said = log[marks[-1].end() :]
    said = re.split(r"\n\[\d{4}-\d{2}-\d{2} ", said)[0]
    return " ".join(said.split())


def culprits(reason: str, names: Sequence[str]) -> dict[str, str]:
    """Which of the resources `names` the reason is about, and what it says of each.

    Envoy writes `name: what is wrong, name: ...` for resources it cannot use, and prints the whole resource,
    with its `name: "..."`, where the form itself is wrong.
    """
    places = sorted((reason.index(f" {name}: ") + 1, name) for name in set(names) if f" {name}: " in reason)
    found = {}
    for index, (begin, name) in enumerate(places):
        end = places[index + 1][0] if index + 1 < len(places) else len(reason)
        found[name] = reason[begin + len(name) + 2 : end].rstrip(", ")
    if not found:
        cause = re.search(r"[Pp]roto constraint validation failed \((.*)\)|[Uu]nable to parse.*", reason)
        said = cause[0] if cause else reason
        found = {name: said[:300] for name in set(names) if f'name: "{name}"' in reason}
    return found


def _file(resources: Iterable[Json]) -> tuple[str, bytes]:
    """A file that Envoy watches, with the version that it will report; sorted, so that it tells content alone."""
    body = ",".join(sorted(json.dumps(each, separators=(",", ":"), sort_keys=True) for each in resources))
    version = xds.short(body)
    return version, f'{{"version_info":"{version}","resources":[{body}]}}\n'.encode()


def _number(stats: Mapping[str, str], name: str) -> int:
    value = stats.get(name, "0")
    return int(value) if value.isdigit() else 0
