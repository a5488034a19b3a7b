"""docs/configuration.md, from the model of hamlet.yaml."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from docs.generate.notice import NOTICE
from hamlet_core.agent.agent import RELINK_KEYS
from hamlet_core.agent.fixed import FIXED_KEYS
from hamlet_core.api import format_duration
from hamlet_core.config.driven import Egress, Gateway
from hamlet_core.config.keys import name_of, plain
from hamlet_core.config.model import Config, Peer

CONFIGURATION = """\
# Configuration: hamlet.yaml

Every key of `hamlet.yaml`, in the order of the model. `hamlet init` writes a file with all of them and their
defaults as comments, `hamlet config check` says what is wrong with one (file, line, key and mend, all of it at
once), `hamlet config show` prints it with every default, and `hamlet config schema` prints a JSON Schema for
editors. An unknown key is an error.

## Values

| kind | how it is written |
|---|---|
| duration | `250ms`, `30s`, `10m`, `1h30m`, `7d`, or a number of seconds |
| share | a number between 0 and 1, or `30%` |
| time | ISO 8601 with its zone: `2026-03-01T08:00:00Z` |
| label | lower-case letters, digits and hyphens, at most 63 characters |
| host:port | `hamlet.east.example:8008`; an IPv6 address in brackets: `[::1]:8008` |
| network | `10.1.0.0/16`, or one address |
| pattern | as a shell has them (`*`, `?`, `[a-z]`); `*` matches dots too |
| path | absolute, or relative to the folder of hamlet.yaml |

A value may come from elsewhere. `${NAME}` and `${NAME:-default}` are filled in from the environment, anywhere in
a text; `file:PATH` before a whole value stands for the content of a file (without one newline at its end, at most
64 KiB). `$${` is a literal `${`. Within braces quote it, since YAML takes its `{` for another mapping:
`{kind: consul, token: "${TOKEN}"}`. What a reference stands for is never printed: `hamlet config show`, errors and
logs show the reference. Keys that take a path take the path itself, not `file:`.

## What a change needs

SIGHUP, and with `hamlet run --watch` a changed file, makes the agent take over the configuration. The column
*change* says what that does: *at once* leaves every stream up; *new link* opens the streams of that peer anew and
deletes nothing; *restart* cannot be taken over: the agent says so, names the keys, and keeps the whole of the old
configuration until it is restarted. Where nothing of that differs but the value behind a `file:` or `${NAME}` (a
password that was rotated), the rest is taken over, and `hamlet status` names the key until the agent is restarted.
`hamlet plan` shows beforehand what a change would publish, withdraw, write and delete.
"""

EXAMPLE = """\
## An example

```yaml
# hamlet.yaml
mesh:
  name: west
  domain: west.example
  trust_domain: west.example
identity:
  certificate: pki/agent.crt
  key: pki/agent.key
  bundle: pki/bundle.pem
registries:
  local:
    kind: file
    path: registry
gateway:
  endpoints: ["gateway.west.example:443"]
  sans: ["spiffe://west.example/ns/ingress/sa/gateway"]
publish:
  - select: {tags: [partner]}
    to: [east]
    until: 2027-01-01T00:00:00Z
  - select: {marked: true}        # what its own registry entry asks to be published, to whom it says
    to: all
peers:
  east:
    address: hamlet.east.example:8008
    trust_domain: east.example
    bundle: peers/east.pem
    accept: ["*.east.example"]
  north:                          # a vendor without SPIFFE, which speaks the older version and dials us
    dns_name: federation.north.example
    bundle: peers/north.pem
    api: v1alpha1
    accept: ["*.north.example"]
    retain: 0                     # keep what it had for ever
```
"""

_AFTER = {
    ("publish", "[]"): (
        "The rules are read in order. For each service and peer the first active rule that fits decides, also when\n"
        "its decision cannot be carried out (no gateway, no healthy endpoint): `hamlet status` lists the service\n"
        "then as not published, with the reason. A service that no rule fits is published to nobody. A name under\n"
        "`svc.cluster.local` or `consul` is refused, since every mesh has those for itself."
    ),
    ("peers", "NAME"): (
        "A peer is known by exactly one of `trust_domain` (narrowed by `spiffe_id`), `dns_name` and `fingerprint`,\n"
        "and always against its own `bundle` alone. No two peers, and no peer and this mesh, share a trust domain.\n"
        "The name NAME is yours: it stands in status, in logs and in the mark of every import. To rename a peer,\n"
        "reload: what came under the old name is withdrawn, and imported again under the new one."
    ),
    ("gateway",): (
        "All other keys are the plugin's own; its README lists them. Only a restart changes a gateway that a plugin\n"
        "drives, adds one, or takes one away. One of kind static, or its endpoints and sans, changes at once."
    ),
    ("egress",): "All other keys are the plugin's own; its README lists them. Only a restart changes any of them.",
    (
        "coordinator",
    ): "All other keys are the plugin's own; its README lists them. Only a restart changes any of them.",
    ("registries", "NAME"): (
        "All other keys are the adapter's own; its README lists them, `hamlet plugins` says what is installed, and\n"
        "`hamlet config schema` includes them. The name stands in the mark of every import, so renaming a registry\n"
        "leaves what was written under the old name to nobody."
    ),
}

DRIVEN_KEYS: dict[type[BaseModel], tuple[str, ...]] = {Gateway: ("kind",), Egress: ("kind",)}
"""Keys of what a plugin drives: `needs_restart` compares the whole of it, and nothing of a static gateway."""

_NAMED: dict[str, str] = {
    "dns_label": "label",
    "dns_name": "domain name",
    "trust_domain": "trust domain",
    "spiffe_id": "SPIFFE ID",
    "host_port": "host:port",
    "reachable_host_port": "host:port",
    "loopback_host_port": "loopback host:port",
    "cidr": "network",
    "parse_share": "share",
    "names_or_all": "`all`, or a list of names",
}
"""What a value is called by the function that checks it."""

_PLAIN: dict[Any, str] = {
    str: "text", bool: "true or false", int: "whole number", float: "number", Path: "path", timedelta: "duration",
    datetime: "time", AwareDatetime: "time",
}  # fmt: skip


def configuration() -> str:
    """docs/configuration.md."""
    sections = "\n".join(_section(Config, ()))
    return f"{NOTICE}\n{CONFIGURATION}\n{sections}\n{EXAMPLE}"


def keys_of(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, FieldInfo]]:
    """Every key below a section as one writes its place (`publish[].select.name`), sections among them."""
    for name, field in model.model_fields.items():
        place = (*at, name_of(name, field))
        yield ".".join(place).replace(".[]", "[]"), field
        inner, step = _inner(field.annotation)
        if inner is not None:
            yield from keys_of(inner, (*place, *step))


def _section(model: type[BaseModel], at: tuple[str, ...]) -> Iterator[str]:
    yield f"## {_place(at)}\n"
    if at:
        about = inspect.getdoc(model) or ""
        yield about.replace("\n", " ").replace("  ", "\n\n") + "\n"
    yield "| key | value | default | change | meaning |\n|---|---|---|---|---|"
    nested = []
    for name, field in model.model_fields.items():
        key = name_of(name, field)
        inner, step = _inner(field.annotation)
        if inner is not None:
            nested.append((inner, (*at, key, *step)))
        cells = (f"`{key}`", _kind(field), _default(field), _change(model, at, key), field.description or "")
        yield f"| {' | '.join(cells)} |"
    yield ""
    if at in _AFTER:
        yield f"{_AFTER[at]}\n"
    for inner, place in nested:
        yield from _section(inner, place)


def _place(at: tuple[str, ...]) -> str:
    return f"`{'.'.join(at).replace('.[]', '[]')}`" if at else "The whole file"


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, tuple[str, ...]]:
    """The section that a key holds, and how it is reached from there: by a name, by an index, directly."""
    kind = plain(annotation)
    members = typing.get_args(kind)
    for origin, member, step in ((dict, -1, "NAME"), (tuple, 0, "[]")):
        if typing.get_origin(kind) is origin and _is_model(members[member]):
            return members[member], (step,)
    return (kind, ()) if _is_model(kind) else (None, ())


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(field: FieldInfo) -> str:
    words = _words(field.annotation, field.metadata)
    limits = [text for each in field.metadata for text in _limits(each)]
    return ", ".join([words, *limits])


def _words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    for each in metadata:
        if isinstance(each, AfterValidator | BeforeValidator) and each.func.__name__ in _NAMED:
            return _NAMED[each.func.__name__]
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(members[0], members[1:])
    if origin in (typing.Union, types.UnionType):
        return _words(next(member for member in members if member is not type(None)))
    if origin is typing.Literal:
        return ", ".join(f"`{member}`" for member in members)
    inner, step = _inner(annotation)
    if inner is not None:
        return {"NAME": "sections by name", "[]": "list of sections"}.get("".join(step), "section")
    if origin is tuple:
        return f"list of {_words(members[0])}"
    if origin is dict:
        return f"map of {_words(members[1])}"
    return _PLAIN[annotation]


def _limits(constraint: Any) -> Iterator[str]:
    for attribute, text in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
        value = getattr(constraint, attribute, None)
        if value not in (None, 0, timedelta(0)) or (attribute == "gt" and value is not None):
            yield f"{text} {_written(value)}"
    if getattr(constraint, "min_length", None):
        yield "not empty"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    return "" if isinstance(value, BaseModel) else f"`{_written(value)}`"


def _written(value: Any) -> str:
    """A value as hamlet.yaml would have it."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_quoted, value))}]"
    return '""' if value == "" else str(value)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else _written(value)


def _change(model: type[BaseModel], at: tuple[str, ...], key: str) -> str:
    if (at or (key,))[0] in FIXED_KEYS or key in DRIVEN_KEYS.get(model, ()):
        return "restart"
    if model is Config:
        return ""
    return "new link" if model is Peer and key in RELINK_KEYS else "at once"
