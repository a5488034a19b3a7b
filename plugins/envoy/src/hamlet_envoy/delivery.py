"""Bringing resources to Envoy: files in an order that never leaves a gap, and a wait until each is in force.

File by file: what it needs comes before it, what it no longer needs goes after it. So secrets, then clusters (with
those that go), then listeners, then clusters without those that went, then secrets likewise.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hamlet_core.api import GatewayUnavailable
from hamlet_envoy import xds
from hamlet_envoy.admin import Admin
from hamlet_envoy.atomic import write_file
from hamlet_envoy.bootstrap import CLUSTERS, LISTENERS, LOG
from hamlet_envoy.rendering import Rendered
from hamlet_envoy.xds import Json

_CDS, _LDS = "cluster_manager.cds", "listener_manager.lds"
_WATCHED = {CLUSTERS: _CDS, LISTENERS: _LDS}
_WARMING = ("cluster_manager.warming_clusters", "listener_manager.total_listeners_warming")
_REFUSALS = ("update_rejected", "update_failure")
_VERSIONS = r"(cluster_manager\.cds|listener_manager\.lds|sds\.[^.]*)\.version_text", "TextReadouts"
_REFUSED = r"(cluster_manager\.cds|listener_manager\.lds)\.update_(rejected|failure)", "Counters"
_WAITING = "|".join(map(re.escape, _WARMING)), "Gauges"
_FORM = re.compile(r'\{"version_info":"(\w+)","resources":\[(.*)\]\}\n', re.DOTALL)
_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.05
_THOROUGH = 10
"""Every how many looks the counters are asked for too, which cost more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file that Envoy watches, the version that it will report, and what is in it: texts by name."""

    version: str
    content: bytes
    resources: Mapping[str, str]


class Rejected(Exception):
    """Envoy refused resources; `culprits` are those that it names, with what it says of each."""

    def __init__(self, reason: str, culprits: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.culprits = culprits


class Delivery:
    """The files of one Envoy. `timeout`: seconds that it may take for all of a change."""

    def __init__(self, directory: Path, admin: Admin, timeout: float) -> None:
        self._directory = directory
        self._admin = admin
        self._timeout = timeout
        self._end = 0.0
        self._written: dict[str, _File] = {}

    def prepare(self) -> None:
        """Make sure that Envoy finds the files it watches. Raises `OSError`."""
        for name in (CLUSTERS, LISTENERS):
            if not (self._directory / name).exists():
                write_file(self._directory / name, _file({}).content)

    def put(self, wanted: Rendered) -> None:
        """Make `wanted` all that Envoy has.

        Raises `Rejected` with what stood before in force again, and `GatewayUnavailable` when Envoy does not
        answer; before anything is written if it does not answer at all.
        """
        self._end = time.monotonic() + self._timeout
        known = self._admin.stats(*_VERSIONS) | self._admin.stats(*_REFUSED)
        before = self._in_force(known)
        standing = before[CLUSTERS].resources if CLUSTERS in before else {}
        gone = standing.keys() - wanted.clusters.keys()
        names = [*wanted.clusters, *wanted.listeners]
        secrets = {name: _file({name: xds.text(content)}) for name, content in wanted.secrets.items()}
        for name, file in secrets.items():
            write_file(xds.secret_path(name, self._directory), file.content)
        versions = {f"sds.{name}.version_text": file.version for name, file in secrets.items()}
        self._settle({stat: version for stat, version in versions.items() if stat in known})
        try:
            self._put(CLUSTERS, {**standing, **wanted.clusters}, known, names)
            self._put(LISTENERS, wanted.listeners, known, names)
            if gone:
                self._put(CLUSTERS, wanted.clusters, known, names)
        except Rejected:
            for name, file in before.items():
                write_file(self._directory / name, file.content, again=True)
            raise
        self._settle(versions, thorough=True)
        self._drop_secrets(wanted.secrets)

    def _in_force(self, known: Mapping[str, str]) -> dict[str, _File]:
        """The files that Envoy runs as they are; one that someone else has changed is not worth keeping."""
        found = {}
        for name, stat in _WATCHED.items():
            content = (self._directory / name).read_bytes()
            file = self._written.get(name)
            if file is None or file.content != content:
                file = _read(content)
            if file is not None and file.version == known.get(f"{stat}.version_text"):
                found[name] = file
        return found

    def _put(self, name: str, resources: Mapping[str, str], known: Mapping[str, str], names: Sequence[str]) -> None:
        """Write one of the two files, and wait until Envoy has taken or refused it."""
        stat = _WATCHED[name]
        self._written[name] = file = _file(resources)
        running = known.get(f"{stat}.version_text") == file.version
        log = self._log_size()
        if not write_file(self._directory / name, file.content, again=not running) and running:
            return

        def is_rejected(now: Mapping[str, str]) -> bool:
            return any(_number(now, f"{stat}.{each}") > _number(known, f"{stat}.{each}") for each in _REFUSALS)

        if not self._wait({f"{stat}.version_text": file.version}, is_rejected):
            reason = self._reason(log)
            raise Rejected(f"Envoy rejected {name}: {reason}", culprits(reason, names))

    def _settle(self, versions: Mapping[str, str], *, thorough: bool = False) -> None:
        """Wait for those of `versions` that Envoy knows; `thorough`: and until nothing waits for something else."""
        if versions or thorough:
            self._wait(versions, lambda _: False, thorough=thorough)

    def _wait(
        self, versions: Mapping[str, str], is_rejected: Callable[[Mapping[str, str]], bool], *, thorough: bool = False
    ) -> bool:
        """Wait until Envoy says `versions` of those that it knows; False when it refused."""
        for look in itertools.count(1):
            now = self._admin.stats(*_VERSIONS)
            late = [stat for stat, version in versions.items() if now.get(stat, version) != version]
            waiting = self._admin.stats(*_WAITING) if thorough and not late else {}
            warming = [stat for stat in waiting if _number(waiting, stat)]
            if not late and not warming:
                return True
            if look % _THOROUGH == 0 and is_rejected(self._admin.stats(*_REFUSED)):
                return False
            if time.monotonic() > self._end:
                message = f"Envoy did not take what it was given within {self._timeout:g} s: {(late or warming)[0]}"
                raise GatewayUnavailable(message, mend="its log says why; or it is short of processors")
            time.sleep(min(_FIRST_LOOK * 2**look, _LONGEST_LOOK))
        return False

    def _drop_secrets(self, secrets: Mapping[str, Json]) -> None:
        kept = {xds.secret_path(name, self._directory) for name in secrets}
        for path in self._directory.glob("sds-*.json"):
            if path not in kept:
                path.unlink(missing_ok=True)

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


def not_in_force(directory: Path, admin: Admin) -> list[str]:
    """The files that Envoy has not taken as they are. Raises `GatewayUnavailable`, and `OSError`."""
    running = admin.stats(*_VERSIONS)
    return [
        name
        for name, stat in _WATCHED.items()
        if _version((directory / name).read_bytes()) != running.get(f"{stat}.version_text")
    ]


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


def _file(resources: Mapping[str, str]) -> _File:
    """A file that Envoy watches, sorted, so that its version tells content alone."""
    body = ",".join(sorted(resources.values()))
    version = xds.short(body)
    content = f'{{"version_info":"{version}","resources":[{body}]}}\n'.encode()
    return _File(version=version, content=content, resources=resources)


def _read(content: bytes) -> _File | None:
    """What `_file` made, from its content; None for any other content."""
    version = _version(content)
    if not version:
        return None
    resources = {each["name"]: xds.text(each) for each in json.loads(content)["resources"]}
    return _File(version=version, content=content, resources=resources)


def _version(content: bytes) -> str:
    """The version in a file as `_file` makes them; empty for any other content."""
    found = _FORM.fullmatch(content.decode(errors="replace"))
    return found[1] if found is not None and xds.short(found[2]) == found[1] else ""


def _number(stats: Mapping[str, str], name: str) -> int:
    value = stats.get(name, "0")
    return int(value) if value.isdigit() else 0
