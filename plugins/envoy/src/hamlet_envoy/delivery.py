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
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_VERSIONS = r"(cluster_manager\.cds|listener_manager\.lds|sds\.[^.]*)\.version_text"
_ALL = "|".join((r"(.*\.)(version_text|update_rejected|update_failure)", *map(re.escape, _WARMING)))
_FORM = re.compile(r'\{"version_info":"(\w+)","resources":\[(.*)\]\}\n', re.DOTALL)
_NOTHING = b'{"resources":[]}'
_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.05
_THOROUGH = 10
"""Every how many looks the counters are asked for too, which cost more."""


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
        self._end = time.monotonic() + self._timeout
        known = self._admin.stats(_ALL)
        before = self._in_force(known)
        standing: dict[str, Json] = {
            each["name"]: each for each in json.loads(before.get(CLUSTERS, _NOTHING))["resources"]
        }
        gone = standing.keys() - wanted.clusters.keys()
        names = [*wanted.clusters, *wanted.listeners]
        secrets = {name: _file([content]) for name, content in wanted.secrets.items()}
        for name, (_, content) in secrets.items():
            write_file(xds.secret_path(name, self._directory), content)
        versions = {f"sds.{name}.version_text": version for name, (version, _) in secrets.items()}
        self._settle({stat: version for stat, version in versions.items() if stat in known})
        try:
            self._put(CLUSTERS, {**standing, **wanted.clusters}.values(), known, names)
            self._put(LISTENERS, wanted.listeners.values(), known, names)
            if gone:
                self._put(CLUSTERS, wanted.clusters.values(), known, names)
        except Rejected:
            for name, content in before.items():
                write_file(self._directory / name, content, again=True)
            raise
        self._settle(versions, thorough=True)
        self._drop_secrets(wanted.secrets)

    def _in_force(self, known: Mapping[str, str]) -> dict[str, bytes]:
        """The files that Envoy runs as they are; one that someone else has changed is not worth keeping."""
        contents = {name: (self._directory / name).read_bytes() for name in _WATCHED}
        return {
            name: content
            for name, content in contents.items()
            if _version(content) == known.get(f"{_WATCHED[name]}.version_text")
        }

    def _put(self, name: str, resources: Iterable[Json], known: Mapping[str, str], names: Sequence[str]) -> None:
        """Write one of the two files, and wait until Envoy has taken or refused it."""
        stat = _WATCHED[name]
        version, content = _file(resources)
        running = known.get(f"{stat}.version_text") == version
        log = self._log_size()
        if not write_file(self._directory / name, content, again=not running) and running:
            return

        def is_rejected(now: Mapping[str, str]) -> bool:
            return any(_number(now, f"{stat}.{each}") > _number(known, f"{stat}.{each}") for each in _REFUSALS)

        if not self._wait({f"{stat}.version_text": version}, is_rejected):
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
            counters = thorough or look % _THOROUGH == 0
            now = self._admin.stats(_ALL if counters else _VERSIONS, texts_only=not counters)
            late = [stat for stat, version in versions.items() if now.get(stat, version) != version]
            warming = [stat for stat in _WARMING if thorough and _number(now, stat)]
            if not late and not warming:
                return True
            if counters and is_rejected(now):
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
    running = admin.stats(_VERSIONS, texts_only=True)
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


def _file(resources: Iterable[Json]) -> tuple[str, bytes]:
    """A file that Envoy watches, with the version that it will report; sorted, so that it tells content alone."""
    body = ",".join(sorted(json.dumps(each, separators=(",", ":"), sort_keys=True) for each in resources))
    version = xds.short(body)
    return version, f'{{"version_info":"{version}","resources":[{body}]}}\n'.encode()


def _version(content: bytes) -> str:
    """The version in a file as `_file` makes them; empty for any other content."""
    found = _FORM.fullmatch(content.decode(errors="replace"))
    return found[1] if found is not None and xds.short(found[2]) == found[1] else ""


def _number(stats: Mapping[str, str], name: str) -> int:
    value = stats.get(name, "0")
    return int(value) if value.isdigit() else 0
