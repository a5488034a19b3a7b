"""Who leads, by a session and a locked key of Consul.

The session lives by its time-to-live alone: with a health check it could end, and another agent lead, while this
one still may believe in its lead. For the same reason the key stays locked for a while after a session that ended
otherwise than by our own release.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any

from consul import base
from pydantic import Field, field_validator

from hamlet_consul.check import failed, version
from hamlet_consul.client import Client
from hamlet_consul.errors import ConsulDenied
from hamlet_consul.options import Connection
from hamlet_consul.transport import Transport
from hamlet_core.api import (
    AdapterContext,
    AdapterType,
    CoordinatorUnavailable,
    Duration,
    Finding,
    HamletError,
    Severity,
    Stop,
    hookimpl,
    lead_by_renewing,
)

LAST_WORDS = 0.4
"""Seconds for a call that gives the lead up: it must not keep the agent from ending."""
CALL = 1 / 6
"""The share of the time-to-live that a call may take to connect, and to be answered."""
_MEND = "`hamlet check` says which rights are missing; else see whether Consul is up"

SessionTtl = Annotated[Duration, Field(ge=timedelta(seconds=10), le=timedelta(seconds=60))]
"""Consul takes no session of less than 10 s, and no lock delay of more than 60 s (Consul, "Session HTTP API")."""


class ConsulCoordinatorOptions(Connection):
    """The keys of a coordinator of kind `consul`."""

    lock: str = Field(
        default="",
        description="Key of the store that the leader holds; empty: `hamlet/<trust domain>/<mesh>/leader`.",
    )
    ttl: SessionTtl = Field(
        default=timedelta(seconds=15),
        description="Time-to-live of the leader's session; who was killed is followed after two to three of them.",
    )

    @field_validator("lock")
    @classmethod
    def _lock(cls, value: str) -> str:
        if value != value.strip("/"):
            message = f"{value!r} must neither begin nor end with a slash"
            raise ValueError(message)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What stands at the key: the session that holds it, if any, and the index of its last change."""

    session: str
    index: int


class ConsulCoordinator:
    """The key of one mesh. `_claim` runs on one thread, the rest after it."""

    def __init__(self, options: ConsulCoordinatorOptions, context: AdapterContext) -> None:
        self._ttl = options.ttl.total_seconds()
        self._settings = options.settings(context, consistency="consistent")
        self._key = options.lock or f"hamlet/{context.trust_domain}/{context.mesh}/leader"
        self._mark = {"hamlet": "leader", "trust_domain": context.trust_domain, "mesh": context.mesh}
        self._mesh = context.mesh
        self._session = ""

    @hookimpl
    def coordinator_lead(self, stop: Stop) -> Iterator[bool]:
        """Hold the key, or wait for it."""
        client = self._client(self._ttl * CALL)
        stop.on_stop(client.close)
        return lead_by_renewing(stop, lambda: self._claim(client), self._release, ttl=self._ttl, cut=client.close)

    @hookimpl
    def coordinator_check(self) -> Sequence[Finding]:
        """Say who holds the key, and which rights are missing."""
        client = self._client(self._settings.timeout)
        try:
            return list(self._findings(client))
        except HamletError as error:
            return [failed(error)]
        finally:
            client.close()

    @hookimpl
    def coordinator_close(self) -> None:
        """Nothing is left: the lead was given up when it ended."""

    def _client(self, seconds: float) -> Client:
        within = min(seconds, self._settings.timeout)
        return Client(Transport(replace(self._settings, connect_timeout=within, timeout=within, retries=0)))

    # --- the lead --------------------------------------------------------------------------------

    def _claim(self, client: Client) -> bool:
        try:
            if self._session and not self._renewed(client):
                self._session = ""
                return False
            self._session = self._session or self._new_session(client)
            held = self._held(client)
            if held is not None and held.session:
                return held.session == self._session
            return self._locked(client, held)
        except CoordinatorUnavailable:
            raise
        except HamletError as error:
            raise CoordinatorUnavailable(str(error), mend=error.mend or _MEND) from error

    def _new_session(self, client: Client) -> str:
        body = {
            "Name": f"hamlet, who leads mesh {self._mesh}, on {socket.gethostname()}",
            "TTL": f"{self._ttl:g}s",
            "LockDelay": f"{self._ttl:g}s",
            "Behavior": "release",
            "Checks": [],
            "NodeChecks": [],
        }
        made = client.http.put(base.CB.json(), path="/v1/session/create", data=json.dumps(body))
        return str(made["ID"])

    def _renewed(self, client: Client) -> bool:
        return bool(client.http.put(_exists, path=f"/v1/session/renew/{self._session}"))

    def _held(self, client: Client) -> _Held | None:
        """What stands at the key; raises where it is not ours."""
        entry = client.http.get(_entry, path=f"/v1/kv/{self._key}")
        if entry is None:
            return None
        if not self._is_ours(entry):
            message = f"the key {self._key} in Consul is there and has not the mark of this mesh"
            raise CoordinatorUnavailable(message, mend="remove it, or set another `lock`")
        return _Held(session=entry.get("Session") or "", index=entry["ModifyIndex"])

    def _is_ours(self, entry: dict[str, Any]) -> bool:
        try:
            return bool(json.loads(base64.b64decode(entry["Value"] or "")) == self._mark)
        except ValueError:
            return False

    def _locked(self, client: Client, held: _Held | None) -> bool:
        """Lock the key, if it still is as it was seen."""
        value = base64.b64encode(json.dumps(self._mark).encode()).decode()
        seen: dict[str, Any] = (
            {"Verb": "check-not-exists"} if held is None else {"Verb": "check-index", "Index": held.index}
        )
        lock = {"Verb": "lock", "Key": self._key, "Value": value, "Session": self._session}
        return not client.transact([{"KV": {"Key": self._key, **seen}}, {"KV": lock}]).errors

    def _release(self) -> None:
        """Give the key up by name, so that nobody has to wait, and then the session."""
        session, self._session = self._session, ""
        if not session:
            return
        client = self._client(LAST_WORDS)
        try:
            if (held := self._held(client)) is not None and held.session == session:
                unlock = {"Verb": "unlock", "Key": self._key, "Session": session}
                value = base64.b64encode(json.dumps(self._mark).encode()).decode()
                client.transact([{"KV": {**unlock, "Value": value}}])
            client.http.put(_exists, path=f"/v1/session/destroy/{session}")
        except HamletError as error:
            raise CoordinatorUnavailable(str(error)) from error
        finally:
            client.close()

    # --- checks ----------------------------------------------------------------------------------

    def _findings(self, client: Client) -> Iterator[Finding]:
        denied = client.denied([("key", self._key, "read"), ("key", self._key, "write")])
        policy = f'key "{self._key}" {{ policy = "write" }}\nsession_prefix "" {{ policy = "write" }}\n'
        for kind, segment, access in denied or ():
            message = f"the token lacks {kind}:{access} {segment!r}"
            mend = f"give it this policy:\n{policy}"
            yield Finding(subject="right", severity=Severity.ERROR, message=message, mend=mend)
        if not denied:
            held = self._held(client)
            message = "nobody holds it" if held is None or not held.session else f"session {held.session} holds it"
            yield Finding(subject=f"key {self._key}", severity=Severity.OK, message=message)
        yield version(client)


def _exists(response: Any) -> bool:
    if response.code in (200, 404):
        return bool(response.code == 200)
    message = f"Consul answered {response.code} about a session: {response.body[:200]}"
    raise ConsulDenied(message)


def _entry(response: Any) -> Any:
    return None if response.code == 404 else json.loads(response.body)[0]


ADAPTER = AdapterType(
    kind="consul",
    role="coordinator",
    options=ConsulCoordinatorOptions,
    open=ConsulCoordinator,
    api_version=1,
    summary="a session and a locked key of Consul",
    backend="hamlet_consul.verification:coordinator",
)
