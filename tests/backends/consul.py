"""A real Consul agent for tests: started on loopback with ports of its own, and handled by its pid. And fixtures.

Nothing here uses the code under test: `Consul.call` is the other hand, by which tests edit and look.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.backends.not_run import needed
from tests.backends.pki import Pki, make_pki
from tests.support.ports import free_ports

READY_SECONDS = 60.0
CALL_SECONDS = 30.0
ONLY_CONSUL = 'node_prefix "" { policy = "read" } service "consul" { policy = "read" }'
"""Rules of a token that sees Consul itself and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A status code, the headers and the decoded body of one call."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token with one policy of its own, which can be changed or revoked."""

    consul: Consul
    policy_id: str
    accessor: str
    secret: str

    def set_rules(self, rules: str) -> None:
        """Have these rights from now on."""
        self.consul.do(
            "PUT", f"/v1/acl/policy/{self.policy_id}", {"ID": self.policy_id, "Name": self.policy_id, "Rules": rules}
        )

    def revoke(self) -> None:
        """Count no more."""
        self.consul.do("DELETE", f"/v1/acl/token/{self.accessor}")


class Consul:
    """One agent, in server mode and alone in its datacenter.

    `durable` keeps its state over a restart (`-dev` keeps it in memory); `acl` means default-deny with
    `token` as the bootstrap token; `pki` means mutual TLS and no plain port. `socket` is its Unix socket.
    One that `joins` another is a client agent in that one's datacenter.
    """

    def __init__(
        self,
        binary: Path,
        *,
        datacenter: str,
        durable: bool = False,
        acl: bool = False,
        pki: Pki | None = None,
        joins: Consul | None = None,
        hcl: str = "",
    ) -> None:
        self._binary, self._hcl = binary, hcl
        self.datacenter: str = joins.datacenter if joins else datacenter
        self.durable, self.pki, self._joins = durable, pki, joins
        self.folder = Path(tempfile.mkdtemp(prefix="consul-"))
        self.socket = self.folder / "http.sock"
        self.log = self.folder / "log"
        self.token = str(uuid.uuid4()) if acl else ""
        self.port = 0
        self._ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its URL."""
        return f"{'https' if self.pki else 'http'}://127.0.0.1:{self.port}"

    @property
    def grpc_address(self) -> str:
        """Where it serves xDS: host and port."""
        return f"127.0.0.1:{self._ports[3]}"

    @property
    def serf_port(self) -> int:
        """Where others join it."""
        return self._ports[1]

    @property
    def node(self) -> str:
        """The name of its own node."""
        return f"{'client' if self._joins else 'node'}-{self.datacenter}"

    def start(self) -> None:
        """Start it on the ports it had, or on free ones, and wait until it has a leader."""
        for _ in range(5):
            if not self._ports or not self.port:
                self._ports = free_ports(4)
                self.port = self._ports[0]
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [str(self._binary), "agent", *self._arguments()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)},
                )
            if self._ready():
                return
            said = self.log.read_text(errors="replace")
            self.kill()
            if "address already in use" not in said:
                message = f"consul did not become ready:\n{said[-2000:]}"
                raise RuntimeError(message)
            self.port = 0  # somebody was quicker at one of the ports
        message = f"consul found no free ports:\n{self.log.read_text(errors='replace')[-2000:]}"
        raise RuntimeError(message)

    def _arguments(self) -> list[str]:
        port, lan, server, spare = self._ports
        arguments = ["-bind=127.0.0.1", "-client=127.0.0.1", f"-node={self.node}", f"-datacenter={self.datacenter}"]
        arguments += ["-dns-port=-1", f"-serf-lan-port={lan}", "-serf-wan-port=-1", f"-server-port={server}"]
        arguments += [f"-grpc-port={spare}", "-log-level=warn"]
        arguments += [f"-http-port={-1 if self.pki else port}", f"-https-port={port if self.pki else -1}"]
        if self._joins:
            arguments += [f"-retry-join=127.0.0.1:{self._joins.serf_port}", f"-data-dir={self.folder / 'data'}"]
        elif self.durable:
            arguments += ["-server", "-bootstrap-expect=1", f"-data-dir={self.folder / 'data'}"]
        else:
            arguments += ["-dev"]
        hcl = [
            "disable_update_check = true",
            "performance { raft_multiplier = 1 }",
            "limits { http_max_conns_per_client = 2000 }",
            "leave_on_terminate = false",
            "enable_central_service_config = true",
        ]
        if not self.pki:
            hcl.append(f'addresses {{ http = "127.0.0.1 unix://{self.socket}" }}')
        else:
            hcl.append("verify_incoming = true verify_outgoing = true")
            hcl.append(
                f'ca_file = "{self.pki.ca}" cert_file = "{self.pki.server[0]}" key_file = "{self.pki.server[1]}"'
            )
        if self.token:
            hcl.append(f'acl {{ enabled = true default_policy = "deny" tokens {{ master = "{self.token}" }} }}')
        hcl.append(self._hcl)  # last, so that a test's own setting stands
        return arguments + [part for line in hcl if line for part in ("-hcl", line)]

    def _ready(self) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                return False
            try:
                if self._settled():
                    return True
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        return False

    def _settled(self) -> bool:
        """Whether it has a leader that knows all it ever knew, and will write nothing more of its own accord.

        With a leader but before its first writes, a token or its own service may still be missing; one that was
        restarted says what it has read again so far, unless it is asked to be consistent. Its agent tells it the
        node's addresses a moment later, and may not where tokens are needed.
        """
        said = [self.call("GET", path) for path in ("/v1/status/leader", "/v1/health/service/consul?consistent")]
        if not all(reply.status == 200 and reply.body for reply in said):
            return False
        own = self.call("GET", f"/v1/catalog/node/{self.node}").body
        return bool(self.token or (own and own["Node"]["TaggedAddresses"]))

    def call(self, method: str, path: str, body: object = None, *, token: str | None = None) -> Reply:
        """Make one call, by default as the bootstrap token, and decode what comes back."""
        if self.pki:
            context = ssl.create_default_context(cafile=str(self.pki.ca))
            context.load_cert_chain(*map(str, self.pki.client))
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=CALL_SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        said = self.token if token is None else token
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, body=data, headers={"X-Consul-Token": said} if said else {})
            response = connection.getresponse()
            text = response.read().decode()
            headers = {key.lower(): value for key, value in response.getheaders()}
        finally:
            connection.close()
        decoded = json.loads(text) if headers.get("content-type") == "application/json" and text else text
        return Reply(status=response.status, headers=headers, body=decoded)

    def do(self, method: str, path: str, body: object = None) -> Any:
        """Make one call that must succeed, and return its body."""
        reply = self.call(method, path, body)
        assert reply.status == 200, f"{method} {path}: {reply.status} {reply.body}"
        return reply.body

    def make_token(self, rules: str) -> Token:
        """A new token with these rules."""
        name = f"policy-{len(self.do('GET', '/v1/acl/policies'))}"
        made = self.do("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        token = self.do("PUT", "/v1/acl/token", {"Policies": [{"ID": made["ID"]}]})
        return Token(consul=self, policy_id=made["ID"], accessor=token["AccessorID"], secret=token["SecretID"])

    def register(self, name: str, *, node: str = "workloads", status: str = "passing", **service: Any) -> None:
        """Register an instance with one check in one call, as an agent of Consul does."""
        known = {"Service": name, "ID": name, "Port": 8080, **service}
        check = {"CheckID": f"alive-{known['ID']}", "Name": "alive", "ServiceID": known["ID"], "Status": status}
        self.do(
            "PUT",
            "/v1/catalog/register",
            {"Node": node, "Address": "10.0.0.1", "Service": known, "Check": check},
        )

    def register_many(self, count: int, node: str = "workloads") -> None:
        """Register `service-0` and so on, each with a check, on one node."""
        self.do("PUT", "/v1/catalog/register", {"Node": node, "Address": "10.0.0.1"})
        operations: list[dict[str, Any]] = []
        for number in range(count):
            name = f"service-{number}"
            check = {
                "Node": node,
                "CheckID": f"alive-{name}",
                "Name": "alive",
                "ServiceID": name,
                "Status": "passing",
            }
            service = {"ID": name, "Service": name, "Port": 8080}
            operations.append({"Service": {"Verb": "set", "Node": node, "Service": service}})
            operations.append({"Check": {"Verb": "set", "Check": check}})
        for start in range(0, len(operations), 64):
            self.do("PUT", "/v1/txn", operations[start : start + 64])

    def deregister(self, service_id: str, *, node: str = "workloads") -> None:
        """Take an instance out, and its checks with it."""
        self.do("PUT", "/v1/catalog/deregister", {"Node": node, "ServiceID": service_id})

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=15)

    def restart(self, *, forget: bool = False) -> None:
        """Kill it and start it again on the same ports; `forget` loses its data."""
        self.kill()
        if forget:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.socket.unlink(missing_ok=True)
        self.start()

    def pause(self) -> None:
        """Let it hang: it accepts connections and never answers."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + READY_SECONDS
        while not self._stopped():  # the signal reaches one thread after the other
            assert time.monotonic() < deadline, f"process {self.pid} does not stop"
            time.sleep(0.005)

    def _stopped(self) -> bool:
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Take everything out that was put into it."""
        operations: list[dict[str, Any]] = [{"KV": {"Verb": "delete-tree", "Key": ""}}]
        operations += [
            {"Node": {"Verb": "delete", "Node": {"Node": node["Node"]}}}
            for node in self.do("GET", "/v1/catalog/nodes")
            if node["Node"] != self.node
        ]
        for start in range(0, len(operations), 64):
            self.do("PUT", "/v1/txn", operations[start : start + 64])
        for service in self.do("GET", "/v1/agent/services"):
            self.do("PUT", f"/v1/agent/service/deregister/{service}")
        for kind in ("service-defaults", "proxy-defaults", "ingress-gateway", "terminating-gateway"):
            for entry in self.do("GET", f"/v1/config/{kind}"):
                self.do("DELETE", f"/v1/config/{kind}/{entry['Name']}")

    def close(self) -> None:
        """End it and remove what it left on disk."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


StartConsul = Callable[..., Consul]


@pytest.fixture(scope="session")
def consul_binary() -> Path:
    """The Consul of this machine; without one its tests are not run, and the summary says so."""
    (binary,) = needed("a real Consul", "consul")
    return binary


@pytest.fixture(scope="session")
def session_consul(consul_binary: Path, worker_id: str) -> Iterator[Consul]:
    """The one plain Consul of this test session (or worker); tests take `consul`."""
    yield from _running(Consul(consul_binary, datacenter=f"dc-{worker_id}"))


@pytest.fixture(scope="session")
def session_consul_acl(consul_binary: Path, worker_id: str) -> Iterator[Consul]:
    """The one Consul of this session that denies by default; tests take `consul_acl`."""
    yield from _running(Consul(consul_binary, datacenter=f"acl-{worker_id}", acl=True))


@pytest.fixture(scope="session")
def session_consul_tls(
    consul_binary: Path, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Consul]:
    """The one Consul of this session that asks for client certificates; tests take `consul_tls`."""
    pki = make_pki(tmp_path_factory.mktemp("consul-pki"))
    yield from _running(Consul(consul_binary, datacenter=f"tls-{worker_id}", pki=pki))


@pytest.fixture
def consul(session_consul: Consul) -> Iterator[Consul]:
    """A real Consul without anything of another test in it."""
    yield session_consul
    session_consul.wipe()


@pytest.fixture
def consul_acl(session_consul_acl: Consul) -> Iterator[Consul]:
    """A real Consul with ACL default-deny; `token` is its bootstrap token."""
    yield session_consul_acl
    session_consul_acl.wipe()


@pytest.fixture
def consul_tls(session_consul_tls: Consul) -> Iterator[Consul]:
    """A real Consul behind mutual TLS; `pki` has the files."""
    yield session_consul_tls
    session_consul_tls.wipe()


@pytest.fixture
def start_consul(consul_binary: Path, worker_id: str) -> Iterator[StartConsul]:
    """Start a Consul for this test alone, to be killed, restarted, paused: `start_consul(durable=True, acl=True)`."""
    started: list[Consul] = []

    def start(**options: Any) -> Consul:
        options.setdefault("datacenter", f"own{len(started)}-{worker_id}")
        one = Consul(consul_binary, **options)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.close()


def _running(one: Consul) -> Iterator[Consul]:
    try:
        one.start()
        yield one
    finally:
        one.close()
