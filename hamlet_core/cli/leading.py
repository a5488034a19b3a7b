"""That nobody leads a gateway while it is verified: no agent of this file, and none of its mesh elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hamlet_core.api import HamletError
from hamlet_core.api.testing.candidates import Candidate
from hamlet_core.api.testing.live_role import attempt
from hamlet_core.cli.subjects import Place, Subject, subjects
from hamlet_core.plugins.attribution import attributed

if TYPE_CHECKING:
    from hamlet_core.config.load import Loaded

LEAD_WITHIN = 10.0
"""Seconds until another agent is taken to lead: more than a lead takes that was just given up, or never was taken."""
SAID_AFTER = 1.0
"""Seconds of waiting for the lead after which a person is told what for."""
END_WITHIN = 5.0
"""Seconds that giving the lead up may take."""


@contextmanager
def led_by_nobody(loaded: Loaded, found: Collection[Subject], *, within: float = LEAD_WITHIN) -> Iterator[None]:
    """Keep every agent from the gateways among `found`: hold the lead of the mesh, where there is a coordinator.

    Raises `HamletError` where an agent leads, as the checks would take from the gateway all that it leads;
    where that cannot be known; and in the end, where the lead was lost meanwhile.
    """
    gateway = next((each.place for each in found if each.place.role == "gateway"), None)
    if gateway is None:
        yield
        return
    _refuse_an_agent(loaded, gateway)
    if loaded.config.coordinator is None:
        yield
        return
    mesh = loaded.config.mesh.name
    candidate = _candidate(loaded)
    kept = False
    try:
        _await_lead(candidate, gateway, mesh, within)
        yield
        kept = candidate.leads and len(candidate.terms()) == 1
    finally:
        for left in attempt("the lead is not given up", candidate.end, END_WITHIN):
            click.echo(left, err=True)
    if not kept:
        message = f"the lead of mesh {mesh} was lost meanwhile: an agent may have written to the {gateway}, too"
        raise HamletError(message, mend="stop every agent of the mesh and verify it again")


def _refuse_an_agent(loaded: Loaded, gateway: Place) -> None:
    from hamlet_core.agent.admin import AgentUnreachable, call

    socket = loaded.config.admin.socket
    try:
        call(socket, "ping", {})
    except AgentUnreachable:
        if socket.exists() and not os.access(socket, os.W_OK):  # who may not ask cannot know
            raise
        return
    message = f"an agent runs with {loaded.path}: the checks would take from the {gateway} all that it leads"
    raise HamletError(message, mend="stop the agent for as long as it takes, or leave the gateway out with --role")


def _candidate(loaded: Loaded) -> Candidate:
    """An agent of the mesh, as the coordinator sees it."""
    settings = loaded.config.coordinator
    assert settings is not None
    (found,) = subjects(loaded, settings.kind, role="coordinator", registry=None, backend=None, alone=True)
    context = loaded.context("coordinator")
    try:
        return Candidate(found.adapter.open(found.options, context), context)
    except Exception as error:
        raise attributed(str(found.place), error) from error


def _await_lead(candidate: Candidate, gateway: Place, mesh: str, seconds: float) -> None:
    began = time.monotonic()
    said = False
    while not candidate.leads:
        if candidate.error is not None:
            raise attributed("coordinator", candidate.error) from candidate.error
        if candidate.ended or time.monotonic() > began + seconds:
            message = f"another agent leads mesh {mesh}: the checks would take from the {gateway} all that it leads"
            mend = (
                "stop every agent of the mesh for as long as it takes (the lead of one that crashed runs out), "
                "or leave the gateway out with --role"
            )
            raise HamletError(message, mend=mend)
        if not said and time.monotonic() > began + SAID_AFTER:
            said = True
            click.echo(f"{gateway}: waiting at most {seconds:g} s for the lead of mesh {mesh}", err=True)
        time.sleep(0.02)
