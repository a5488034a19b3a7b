"""The keys of etcd: listed at one revision, written on a condition, watched from a revision on.

In etcd's JSON keys and values are Base64, numbers of 64 bits are text, and what is zero or empty is left out.
Nothing here knows what a service is.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hamlet_core.api import Stop

from hamlet_etcd.calls import Calls, Compacted, Cut, Unreachable
from hamlet_etcd.options import EtcdOptions

PAGE = 1000
"""So many keys are listed by one call: an answer stays below the largest message of etcd."""
NEVER = 2**62
"""A revision that no key has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What stands under a key, and the revision of its last change."""

    value: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A key was written, or deleted: then `item` is None."""

    key: str
    item: Item | None


class Store:
    """The keys of one etcd, for any thread."""

    def __init__(self, options: EtcdOptions) -> None:
        self._calls = Calls(options)

    def list(self, prefix: str) -> tuple[Mapping[str, Item], int]:
        """Everything whose key begins with `prefix`, as it was at one revision, and that revision."""
        items: dict[str, Item] = {}
        start, revision = _bytes(prefix), 0
        while True:
            query = {"key": _coded(start), "range_end": _end(prefix), "limit": PAGE, "revision": revision}
            try:
                answer = self._calls.call("kv/range", query)
            except Compacted:  # between two pages: begin again
                items, start, revision = {}, _bytes(prefix), 0
                continue
            revision = revision or int(answer["header"]["revision"])
            for found in answer.get("kvs", ()):
                items[_text(found["key"])] = _item(found)
                start = b64decode(found["key"]) + b"\0"
            if not answer.get("more"):
                return items, revision

    def put(self, key: str, value: str, *, expected: int | None = None) -> int | None:
        """Write; with `expected`, only if that is the key's revision (0: it is not there).

        Returns the revision of the write, or None where the key had another.
        """
        request = {"key": _coded(_bytes(key)), "value": _coded(_bytes(value))}
        return self._change(key, {"request_put": request}, expected)

    def delete(self, key: str, *, expected: int | None = None) -> int | None:
        """Take out, on the same condition; what is not there is gone already."""
        return self._change(key, {"request_delete_range": {"key": _coded(_bytes(key))}}, expected)

    def ask_to_write(self, key: str) -> None:
        """Raise `Unreachable` if we may not write `key`; write nothing. Etcd asks for rights before conditions."""
        self._change(key, {"request_put": {"key": _coded(_bytes(key))}}, NEVER)

    def version(self) -> str:
        """The version of the server."""
        return str(self._calls.call("maintenance/status", {})["version"])

    def watch(self, prefix: str, revision: int, stop: Stop) -> Iterator[tuple[Event, ...]]:
        """Yield what happens to the keys after `revision`, together what happened together, until `stop`.

        Raises `Compacted` where etcd no longer knows what followed. A watch of which nothing was heard for
        `timeout` is asked for anew, from where it was: so a server that is gone without a word is noticed.
        """
        cut = Cut()
        stop.on_stop(cut)
        while not stop.is_set():
            create = {"key": _coded(_bytes(prefix)), "range_end": _end(prefix), "start_revision": revision + 1}
            for result in self._calls.stream("watch", {"create_request": create}, cut):
                if result.get("compact_revision"):
                    raise Compacted(f"what followed revision {revision} is forgotten")
                if result.get("canceled"):
                    raise Unreachable(str(result.get("cancel_reason", "it cancelled the watch")))
                if events := tuple(map(_event, result.get("events", ()))):
                    revision = int(result["header"]["revision"])
                    yield events

    def close(self) -> None:
        """Give up the connections."""
        self._calls.close()

    def _change(self, key: str, request: Mapping[str, object], expected: int | None) -> int | None:
        compare = {"key": _coded(_bytes(key)), "target": "MOD", "result": "EQUAL", "mod_revision": expected}
        body = {"compare": [compare] if expected is not None else [], "success": [request]}
        answer = self._calls.call("kv/txn", body)
        return int(answer["header"]["revision"]) if answer.get("succeeded") else None


def _event(found: Mapping[str, Any]) -> Event:
    deleted = found.get("type") == "DELETE"
    return Event(key=_text(found["kv"]["key"]), item=None if deleted else _item(found["kv"]))


def _item(found: Mapping[str, Any]) -> Item:
    return Item(value=_text(found.get("value", "")), revision=int(found["mod_revision"]))


def _end(prefix: str) -> str:
    """The end of the range of everything that begins with `prefix`: the prefix with its last byte one higher."""
    start = _bytes(prefix)
    return _coded(start[:-1] + bytes([start[-1] + 1]))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8")


def _coded(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _text(coded: str) -> str:
    return b64decode(coded).decode("utf-8", errors="replace")
