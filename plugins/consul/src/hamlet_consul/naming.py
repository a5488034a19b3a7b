"""How an import is called in Consul, and how its mark is written. Pure; the rules are those of the README.

Consul keeps at most 64 pairs of meta per service and per node, with keys of letters, digits, `-` and `_` up
to 128 characters and values up to 512 bytes (Consul, `lib/validateMeta`); its DNS answers for names of one
label, at most 63 characters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

NAME_LIMIT = 63
KEYS_LIMIT = 64
VALUE_LIMIT = 512
_HASH = 8
_NO_LABEL = re.compile(r"[^a-z0-9-]")
_NO_KEY = re.compile(r"[^A-Za-z0-9_-]")


def node_name(mesh: str, peer: str) -> str:
    """The synthetic node that carries what was imported from `peer`."""
    return f"hamlet-{mesh}-{peer}"


def service_name(local_name: str) -> str:
    """`orders.west.example` becomes `orders-west-example`: one label, as Consul's DNS needs.

    Dots, and whatever a label cannot hold, become hyphens. What is longer than 63 characters is cut and ends in
    a hash of the whole name.
    """
    plain = _plain(local_name)
    return plain if len(plain) <= NAME_LIMIT and plain != "consul" else hashed_name(local_name)


def hashed_name(local_name: str) -> str:
    """The name for when `service_name` is too long, or taken by another import: it ends in a hash of the whole."""
    plain = _plain(local_name)
    digest = hashlib.blake2b(local_name.encode(), digest_size=_HASH // 2).hexdigest()
    return f"{plain[: NAME_LIMIT - _HASH - 1].rstrip('-')}-{digest}"


def _plain(local_name: str) -> str:
    return _NO_LABEL.sub("-", local_name.lower()).strip("-") or "service"


def split_values(meta: Mapping[str, str]) -> dict[str, str]:
    """Divide values longer than Consul takes: `key` has the first part, `key-2`, `key-3` ... the others.

    A part holds at most 512 bytes of UTF-8 and whole characters.
    """
    if max(map(len, meta.values()), default=0) <= VALUE_LIMIT // 4:  # no character is longer than four bytes
        return dict(meta)
    split: dict[str, str] = {}
    for key, value in meta.items():
        for number, part in enumerate(_parts(value), start=1):
            split[key if number == 1 else f"{key}-{number}"] = part
    return split


def join_value(meta: Mapping[str, str], key: str) -> str:
    """Put the parts of the value of `key` together again; an empty string where there is none."""
    parts = [meta.get(key, "")]
    while (part := meta.get(f"{key}-{len(parts) + 1}")) is not None:
        parts.append(part)
    return "".join(parts)


def label_meta(labels: Mapping[str, str], room: int) -> dict[str, str]:
    """As many labels as there is room for, in order of their keys, as `label-<key>`.

    What Consul does not take in a key becomes `-`; a label whose key then is taken, whose key is too long or
    whose value is longer than one meta value is left out. They are for people to read and to filter by.
    """
    meta: dict[str, str] = {}
    for key, value in sorted(labels.items()):
        plain = "label-" + _NO_KEY.sub("-", key)
        fits = len(plain) <= 128 and len(value.encode()) <= VALUE_LIMIT and plain not in meta
        if fits and len(meta) < room:
            meta[plain] = value
    return meta


def fingerprint(parts: Iterable[str], meta: Mapping[str, str], without: str) -> str:
    """A short digest of what was written, by which an edit of someone else shows; one key of the meta has no part."""
    pairs = [part for key in sorted(meta) if key != without for part in (key, meta[key])]
    text = "\0".join([*parts, *pairs])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _parts(value: str) -> list[str]:
    if len(value.encode()) <= VALUE_LIMIT:
        return [value]
    parts, size = [""], 0
    for character in value:
        width = len(character.encode())
        if size + width > VALUE_LIMIT:
            parts.append("")
            size = 0
        parts[-1] += character
        size += width
    return parts
