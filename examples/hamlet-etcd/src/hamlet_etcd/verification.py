"""What everybody but the adapter does to etcd: the owner of a service, a person with etcdctl, the cable.

`hamlet verify-adapter` and the tests import it, an agent never does: it needs pytest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from hamlet_core.api import AdapterContext, ImportedService, LocalService
from hamlet_core.api.testing import LIVE_NAMES, RegistryBackend, Relay

from hamlet_etcd.entries import Keys, Local, write
from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.plugin import open_registry
from hamlet_etcd.store import Item, Store


class EtcdBackend(RegistryBackend):
    """The etcd that the options name; the adapter's way to it can be cut, and nobody else's."""

    def __init__(self, options: EtcdOptions) -> None:
        url = urlsplit(options.address)
        host = url.hostname or ""
        self._relay = Relay(host, url.port or (443 if url.scheme == "https" else 80))
        way = {"address": f"{url.scheme}://{self._relay.address}", "server_name": options.server_name or host}
        self._through = options.model_copy(update=way)
        self._options = options
        self._store = Store(options)
        self._keys = Keys(options.prefix)

    def open(self, context: AdapterContext) -> object:
        return open_registry(self._through, context)

    def add_local(self, service: LocalService) -> str:
        self._store.put(self._keys.service(service.name), write(Local(service=service)))
        return service.name

    def remove_local(self, name: str) -> None:
        self._store.delete(self._keys.service(name))

    def add_foreign(self, service: ImportedService) -> str:
        key = self._keys.service(service.local_name)
        self._store.put(key, '{"somebody": "else"}')
        return key

    def remove_foreign(self, service: ImportedService) -> None:
        self._store.delete(self._keys.service(service.local_name))

    def edit_import(self, service: ImportedService) -> None:
        key = self._keys.service(service.local_name)
        value = json.loads(self.entries()[key].value)
        value["service"]["description"] = "edited by hand"
        self._store.put(key, json.dumps(value))

    def entries(self) -> Mapping[str, Item]:
        return self._store.list(self._options.prefix)[0]

    def sweep(self) -> None:
        for key in self.entries():
            if LIVE_NAMES.own in key:  # of checks on a registry in use, those that were killed included
                self._store.delete(key)

    def outage(self) -> AbstractContextManager[None]:
        return self._relay.cut()

    def silence(self) -> AbstractContextManager[None]:
        return self._relay.silence()

    def close(self) -> None:
        self._store.close()
        self._relay.close()


def make(options: EtcdOptions) -> EtcdBackend:
    """What `hamlet verify-adapter etcd` asks for."""
    return EtcdBackend(options)
