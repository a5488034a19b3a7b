"""What Consul's catalog says, as tables, and the local services it amounts to. No I/O, no time.

Kept up to date from three kinds of answers: all checks, all names with their tags, and the instances of a
service or of a node. An older answer never takes back what a newer one said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hamlet_consul.entries import is_import

Key = tuple[str, str]
"""A node's name, and the ID of a service or of a check on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An instance of a service, with its node's address and meta."""

    node: str
    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    destination: str = ""
    native: bool = False
    wan: tuple[str, int] | None = None
    imported: bool = False
    datacenter: str = ""
    index: int = 0

    @property
    def key(self) -> Key:
        """What identifies it."""
        return self.node, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A health check; of the whole node when it names no service."""

    node: str
    id: str
    service_id: str
    service: str
    status: str
    index: int

    @property
    def key(self) -> Key:
        """What identifies it."""
        return self.node, self.id


class Catalog:
    """The tables. Methods that take an answer return the names of the services it is about."""

    def __init__(self) -> None:
        self.instances: dict[str, dict[Key, Registered]] = {}
        self.checks: dict[Key, Check] = {}
        self.protocols: dict[str, str] = {}
        self.imported: dict[str, set[str]] = {}
        self._on_node: dict[str, set[str]] = {}
        self._checks_of: dict[Key, dict[Key, Check]] = {}

    def take_checks(self, given: Iterable[Mapping[str, Any]], index: int) -> tuple[set[str], set[str]]:
        """Take all checks: the services whose health may differ now, and those that must be read to know.

        A status that changed needs no reading. An instance that is new, or whose last check is gone and that
        may be gone with it, does.
        """
        new = {check.key: check for check in map(check_from, given)}
        for key, old in self.checks.items():
            if (key not in new and old.index > index) or (key in new and new[key].index < old.index):
                new[key] = old
        touched: set[str] = set()
        read: set[str] = set()
        for key in new.keys() | self.checks.keys():
            before, after = self.checks.get(key), new.get(key)
            if before is not None and after is not None and before.index == after.index:
                continue
            self._set_check(key, after)
            one = after or before
            assert one is not None
            if not one.service_id:
                touched |= self._on_node.get(one.node, set())
                continue
            touched.add(one.service)
            known = (one.node, one.service_id) in self.instances.get(one.service, {})
            if known != (after is not None):
                read.add(one.service)
        return touched, read

    def take_names(
        self, given: Mapping[str, list[str]], index: int, ours: Callable[[str], set[str]] = lambda _: set()
    ) -> tuple[set[str], set[str]]:
        """Take all names with their tags: the services that are gone, and those that must be read.

        `ours` gives the tags of what this agent imported under a name.
        """
        gone = {
            name
            for name, instances in self.instances.items()
            if name not in given and all(one.index <= index for one in instances.values())
        }
        self.imported = {name: tags for name, tags in self.imported.items() if name in given}
        return gone, {name for name, tags in given.items() if not self._explains(name, set(tags), ours(name))}

    def _explains(self, name: str, tags: set[str], ours: set[str]) -> bool:
        if name not in self.instances and name not in self.imported and not ours:
            return False
        local = {tag for one in self.instances.get(name, {}).values() for tag in one.tags}
        others = self.imported.get(name, set())
        return tags in (local | others, local | ours, local | others | ours)

    def take_service(self, name: str, given: Iterable[Mapping[str, Any]]) -> set[int]:
        """Take an answer of `health/service/<name>`; return the indexes of its instances."""
        items = list(given)
        self.put(name, [instance_from(item["Node"], item["Service"]) for item in items])
        for item in items:
            for check in map(check_from, item.get("Checks") or ()):
                known = self.checks.get(check.key)
                if known is None or known.index < check.index:
                    self._set_check(check.key, check)
        return {one.index for one in self.instances.get(name, {}).values()}

    def take_nodes(self, answers: Iterable[Mapping[str, Any]]) -> set[str]:
        """Take the services of nodes (`catalog/node-services`), of all that carry no import: what differs."""
        found: dict[str, list[Registered]] = {}
        for answer in answers:
            for service in answer.get("Services") or ():
                one = instance_from(answer["Node"], service)
                found.setdefault(one.name, []).append(one)
        differ = set()
        for name in found.keys() | self.instances.keys():
            before = self.instances.get(name, {})
            self.put(name, found.get(name, ()))
            if self.instances.get(name, {}) != before:
                differ.add(name)
        return differ

    def take_protocols(self, given: Iterable[Mapping[str, Any]]) -> set[str]:
        """Take all `service-defaults`: the services whose protocol differs."""
        new = {entry["Name"]: entry.get("Protocol") or "" for entry in given}
        differ = {name for name in new.keys() | self.protocols.keys() if new.get(name) != self.protocols.get(name)}
        self.protocols = new
        return differ

    def put(self, name: str, instances: Iterable[Registered]) -> None:
        """These are all instances of a service; of those that were imported only the tags are kept."""
        for one in self.instances.pop(name, {}).values():
            self._on_node.get(one.node, set()).discard(name)
        every = list(instances)
        new = {one.key: one for one in every if not one.imported}
        if new:
            self.instances[name] = new
            for one in new.values():
                self._on_node.setdefault(one.node, set()).add(name)
        if len(new) < len(every):
            self.imported[name] = {tag for one in every if one.imported for tag in one.tags}

    def passing(self, one: Registered) -> bool:
        """Whether all checks of the instance and of its node pass (Consul, `?passing`)."""
        on_node = self._checks_of.get((one.node, ""), {})
        own = self._checks_of.get(one.key, {})
        return all(check.status == "passing" for check in (*on_node.values(), *own.values()))

    def _set_check(self, key: Key, check: Check | None) -> None:
        old = self.checks.pop(key, None)
        if old is not None:
            self._checks_of.get((old.node, old.service_id), {}).pop(key, None)
        if check is not None:
            self.checks[key] = check
            self._checks_of.setdefault((check.node, check.service_id), {})[key] = check


def instance_from(node: Mapping[str, Any], service: Mapping[str, Any]) -> Registered:
    """Read an instance as `health/service` and `catalog/node-services` show it."""
    wan = (service.get("TaggedAddresses") or {}).get("wan") or {}
    node_wan = (node.get("TaggedAddresses") or {}).get("wan") or ""
    address = service.get("Address") or node["Address"]
    outside = (wan["Address"], wan.get("Port") or service["Port"]) if wan.get("Address") else None
    if outside is None and node_wan and not service.get("Address"):
        outside = (node_wan, service["Port"])
    return Registered(
        node=node["Node"],
        id=service["ID"],
        name=service["Service"],
        address=address,
        port=service.get("Port") or 0,
        tags=tuple(service.get("Tags") or ()),
        meta=dict(service.get("Meta") or {}),
        kind=service.get("Kind") or "",
        destination=(service.get("Proxy") or {}).get("DestinationServiceName") or "",
        native=bool((service.get("Connect") or {}).get("Native")),
        wan=outside,
        imported=is_import(node.get("Meta")),
        datacenter=node.get("Datacenter") or "",
        index=service["ModifyIndex"],
    )


def check_from(check: Mapping[str, Any]) -> Check:
    """Read a check."""
    return Check(
        node=check["Node"],
        id=check["CheckID"],
        service_id=check.get("ServiceID") or "",
        service=check.get("ServiceName") or "",
        status=check["Status"],
        index=check["ModifyIndex"],
    )
