"""What everybody but the adapter does to etcd: the owner of a service, a person with etcdctl, the cable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from hamlet_core.api import AdapterContext, ImportedService, LocalService
from hamlet_core.api.testing import RegistryBackend, not_run

from hamlet_etcd.entries import Keys, Local, write
from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.plugin import open_registry
from hamlet_etcd.store import Item, Store
from tests.server import Server


class EtcdBackend(RegistryBackend):
    """The registry that the options name, in the server that the tests have started (or in one that runs)."""

    def __init__(self, options: EtcdOptions, server: Server | None = None) -> None:
        self._options = options
        self._server = server
        self._store = Store(options)
        self._keys = Keys(options.prefix)

    def open(self, context: AdapterContext) -> object:
        return open_registry(self._options, context)

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

    def outage(self) -> AbstractContextManager[None]:
        if self._server is None:
            not_run(needs="a server that the tests have started: this one is not ours to stop")
        return self._server.outage()

    def deny(self) -> AbstractContextManager[None] | None:
        return self._denied(self._server) if self._server else None

    @contextmanager
    def _denied(self, server: Server) -> Iterator[None]:
        with server.asking() as root:  # the adapter is not root
            ours, self._store = self._store, Store(root)
            try:
                yield
            finally:
                self._store.close()
                self._store = ours

    def close(self) -> None:
        self._store.close()


def make(options: EtcdOptions) -> EtcdBackend:
    """For `hamlet verify-adapter etcd --backend tests.backend:make`."""
    return EtcdBackend(options)
