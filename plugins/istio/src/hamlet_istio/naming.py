"""How an import is called in a cluster. Pure; the rules are those of the README.

One rule for every kind, the narrowest: a Service's name is a label of RFC 1035 (Kubernetes, "Object Names").
"""

from __future__ import annotations

import base64
import hashlib
import re

LIMIT = 63
_HOST = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def object_name(local_name: str) -> str:
    """`orders.west.example` becomes `orders-west-example`, and no two names become the same.

    A dot becomes `-` and a hyphen `--`. In a host name a dot stands beside no dot and no hyphen, so that can be
    read back. What is no lower-case host name, begins with a digit or gets longer than 63 characters becomes the
    beginning of itself, `---` (which the first form never has) and 13 characters of a hash of the whole.
    """
    if _HOST.fullmatch(local_name):
        plain = local_name.replace("-", "--").replace(".", "-")
        if len(plain) <= LIMIT:
            return plain
    return hashed_name(local_name, local_name)


def hashed_name(beginning: str, whole: str) -> str:
    """A name that begins like `beginning` and ends in a hash (65 bits) of `whole`."""
    digest = base64.b32encode(hashlib.blake2b(whole.encode(errors="surrogatepass"), digest_size=9).digest())
    readable = re.sub(r"[^a-z0-9]+", "-", beginning.lower()).strip("-")
    if not readable or not readable[0].isalpha():
        readable = f"x{readable}"
    return f"{readable[: LIMIT - 16].rstrip('-')}---{digest.decode().lower()[:13]}"


def label_value(text: str) -> str:
    """`text` as the value of a label; one that is none as it stands gets the form with a hash."""
    return text if _LABEL_VALUE.fullmatch(text) and len(text) <= LIMIT else hashed_name(text, text)


def port_name(protocol: str, wish: str, taken: set[str]) -> str:
    """The name of a port: Istio's convention `<protocol>-<suffix>`, a label, at most 15 characters, not `taken`.

    15 characters is what Kubernetes takes as the name of a port (RFC 6335, section 5.1).
    """
    suffix = re.sub(r"[^a-z0-9]+", "-", wish.lower()).strip("-")
    plain = protocol if suffix in ("", protocol) else f"{protocol}-{suffix.removeprefix(f'{protocol}-')}"
    plain = plain[:15].rstrip("-")
    candidate, number = plain, 2
    while candidate in taken:
        candidate = f"{plain[: 14 - len(str(number))].rstrip('-')}-{number}"
        number += 1
    return candidate
