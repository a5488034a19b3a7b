"""The folder imported/: one file per import, one folder per peer, each file with our mark.

A file is ours when it carries the mark of our trust domain and registry and lies where that mark belongs.
Every other one (also a copy of ours under another name) is somebody's and is not touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hamlet_core.api import (
    AdapterContext,
    AdapterError,
    Endpoint,
    ImportedService,
    ImportKey,
    Instance,
    Mark,
    Outcome,
    StandingImport,
    Status,
)
from hamlet_file.atomic import TEMPORARY, create_file, write_file
from hamlet_file.marked import Marked, read, render, scalar

_PLAIN = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,119}")
_PEER_FILE = ".peer.yaml"


def file_name(name: str) -> str:
    """The name under which anything called `name` is filed: itself, if it is plain and no longer than 120.

    Otherwise: its first characters with `_` for what is not plain, `~`, and 32 hex digits of the BLAKE2b of the
    whole. No plain name has a `~`, so two names never share a file.
    """
    if _PLAIN.fullmatch(name):
        return name
    start = re.sub(r"[^a-z0-9._-]", "_", name[:60].lower()).lstrip(".")
    return f"{start}~{hashlib.blake2b(name.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


class ImportedFiles:
    """Reads and writes imported/. Every method raises `OSError` when the folder cannot be used."""

    def __init__(self, mesh: Path, context: AdapterContext) -> None:
        self._mesh = mesh
        self._folder = mesh / "imported"
        self._context = context
        self._owner = {"trust_domain": context.trust_domain, "registry": context.name}

    def listing(self) -> list[StandingImport]:
        """Every import of ours; one that someone edited has no digest."""
        found = []
        for folder in self._peers():
            lost_since = self._lost_since(folder)
            for path in _yaml_files(folder):
                marked = self._ours(path)
                if marked is not None:
                    key = ImportKey(marked.mark["peer"], marked.mark["service"])
                    digest = marked.mark.get("digest", "") if marked.intact else ""
                    local_name = marked.texts.get("local_name", key.name)
                    found.append(StandingImport(key=key, local_name=local_name, digest=digest, lost_since=lost_since))
        return found

    def strays(self) -> list[str]:
        """Files in imported/ that are not ours, by their path in the folder of the mesh."""
        paths = [path for folder in self._peers() for path in _yaml_files(folder) if self._ours(path) is None]
        return [self._shown(path) for path in paths]

    def write(self, service: ImportedService) -> Outcome:
        """Make the file of `service` say what it says; left alone when it does already."""
        path = self._path(service.key)
        text = self._render(service)
        for taken, due in ((path.parent, path.parent.is_dir()), (path, path.is_file())):
            if taken.is_symlink() or (taken.exists() and not due):
                return self._rejected(service.key, taken, "a folder of ours, or a plain file in it, is due there")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # somebody made one this moment: it is looked at
                create_file(path, text.encode())
                return Outcome(key=service.key, status=Status.APPLIED)
        standing = _text(path)
        # An empty file is nobody's work: a power failure leaves such ones.
        if standing and self._ours(path) is None:
            return self._rejected(service.key, path, _whose(read(standing)))
        if standing != text:
            write_file(path, text.encode())
        return Outcome(key=service.key, status=Status.APPLIED)

    def remove(self, key: ImportKey) -> Outcome:
        """Take the file of `key` out, and its folder after the last one; what is not ours stays."""
        path = self._path(key)
        if self._ours(path) is not None:
            path.unlink(missing_ok=True)
            self._tidy(path.parent)
        return Outcome(key=key, status=Status.APPLIED)

    def mark_peer(self, peer: str, lost_since: datetime | None) -> None:
        """Write since when a peer is lost into its folder, if there is one, or take that out again.

        Raises `AdapterError` when somebody else's file is in the way.
        """
        path = self._folder / file_name(peer) / _PEER_FILE
        marked = self._marked(path)
        if marked is not None and not self._is_our_mark(marked):
            message = f"{self._shown(path)} is not ours: {_whose(marked)}"
            raise AdapterError(message, mend="give each agent a folder of its own")
        if lost_since is None:
            path.unlink(missing_ok=True)
        elif path.parent.is_dir():
            comment = f"The mesh {scalar(peer)} is lost; what it published is kept here and may be out of date."
            content = {"lost_since": lost_since.astimezone(UTC).isoformat()}
            write_file(path, render(comment, content, {**self._owner, "peer": peer}).encode())

    def tidy_up(self) -> None:
        """Remove what an agent left that was killed while it wrote. Only for the one who holds the writer lock."""
        for temporary in self._folder.glob(f"*/.*{TEMPORARY}"):
            temporary.unlink(missing_ok=True)

    def _render(self, service: ImportedService) -> str:
        offered = service.service
        content: dict[str, object] = {
            "local_name": service.local_name,
            "name": offered.name,
            "fqdn": offered.fqdn,
            "description": offered.description,
            "tags": offered.tags,
            "labels": dict(sorted(offered.labels.items())),
            "sans": offered.sans,
            "endpoints": [_plain(endpoint) for endpoint in offered.endpoints],
            "instances": [_plain(instance) for instance in offered.instances],
        }
        if service.route is not None:
            content["route"] = {
                "originates_tls": service.route.originates_tls,
                "endpoints": {
                    instance: [_plain(endpoint) for endpoint in endpoints]
                    for instance, endpoints in sorted(service.route.endpoints.items())
                },
                "settings": dict(sorted(service.route.settings.items())),
            }
        comment = f"Imported by Hamlet from the mesh {scalar(service.peer)}. Changes made here are overwritten."
        mark = self._context.mark(service.peer, offered.name, service.digest)
        return render(comment, content, _plain(mark))

    def _peers(self) -> Iterator[Path]:
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return
        yield from (self._folder / name for name in names)

    def _path(self, key: ImportKey) -> Path:
        return self._folder / file_name(key.peer) / f"{file_name(key.name)}.yaml"

    def _ours(self, path: Path) -> Marked | None:
        """The mark in the file at `path`, if it is ours and belongs there."""
        marked = self._marked(path)
        if marked is None or not self._is_our_mark(marked) or "service" not in marked.mark:
            return None
        belongs = self._path(ImportKey(marked.mark.get("peer", ""), marked.mark["service"]))
        return marked if belongs == path else None

    def _is_our_mark(self, marked: Marked) -> bool:
        return all(marked.mark.get(key) == value for key, value in self._owner.items())

    def _marked(self, path: Path) -> Marked | None:
        try:
            return None if path.is_symlink() else read(_text(path))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def _lost_since(self, folder: Path) -> datetime | None:
        marked = self._marked(folder / _PEER_FILE)
        if marked is None or not self._is_our_mark(marked):
            return None
        with contextlib.suppress(ValueError):  # edited into no time at all: the core marks the peer anew
            since = datetime.fromisoformat(marked.texts.get("lost_since", ""))
            return since.replace(tzinfo=since.tzinfo or UTC)
        return None

    def _tidy(self, folder: Path) -> None:
        """Remove the folder of a peer of which nothing is left but, perhaps, our mark that it is lost."""
        peer_file = folder / _PEER_FILE
        with os.scandir(folder) as entries:
            if any(entry.name != _PEER_FILE for entry in entries):
                return
        marked = self._marked(peer_file)
        if marked is not None and self._is_our_mark(marked):
            peer_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # someone put something there this moment
            folder.rmdir()

    def _rejected(self, key: ImportKey, path: Path, why: str) -> Outcome:
        reason = f"{self._shown(path)} is not ours: {why}; move it away"
        return Outcome(key=key, status=Status.REJECTED, reason=reason)

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self._mesh))


def _yaml_files(folder: Path) -> list[Path]:
    # Not `Path.glob`, which takes a folder that may not be listed for an empty one.
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in folder.iterdir() if path.name.endswith(".yaml") and path.name[0] != ".")
    return []


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="surrogateescape")


def _plain(record: Endpoint | Instance | Mark) -> dict[str, Any]:
    """The fields of a record as JSON has them."""
    found = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {key: dict(sorted(value.items())) if isinstance(value, Mapping) else value for key, value in found.items()}


def _whose(marked: Marked | None) -> str:
    if marked is None:
        return "it carries no mark of Hamlet"
    registry, domain = marked.mark.get("registry"), marked.mark.get("trust_domain")
    return f"it carries the mark of registry {registry!r} of trust domain {domain!r}, or of another place"
