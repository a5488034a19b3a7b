"""The admin socket: how the commands of one machine talk to its agent.

A gRPC service over a Unix socket that only its owner can open (mode 0600); requests and replies are JSON
documents, so that what `--json` prints is what the agent said. The methods are those of `Api`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog

from hamlet_core.api.errors import HamletError

log = structlog.get_logger()

SERVICE = "hamlet.admin.v1.Admin"
Document: TypeAlias = dict[str, Any]
Method: TypeAlias = Callable[[Document], Awaitable[Document]]

LONGEST_ERROR = 4_000
"""So many characters of an error are told: it travels in the metadata of HTTP/2, which allows 8 KiB."""

_OPTIONS = (("grpc.max_receive_message_length", 256 * 1024 * 1024), ("grpc.enable_http_proxy", 0))


class AgentUnreachable(HamletError):
    """No agent answers on the admin socket."""


class Said(dict[str, Any]):
    """What an agent said. A field that it did not say is one that an agent of another version does not know."""

    def __missing__(self, key: str) -> NoReturn:
        """Raise `HamletError`."""
        message = f"the agent does not say {key!r}: it is of another version than this command"
        raise HamletError(
            message, mend="restart it, so that it runs what is installed; --json shows what it does say"
        )


class AdminServer:
    """Serves `methods` by name on a Unix socket."""

    def __init__(self, socket: Path, methods: Mapping[str, Method]) -> None:
        self._socket = socket
        self._server = grpc.aio.server(options=_OPTIONS)
        handlers = {name: grpc.unary_unary_rpc_method_handler(_answer(method)) for name, method in methods.items()}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])

    async def start(self) -> None:
        """Take over the socket: a dead agent's is removed; a living agent's, or another file, is an error."""
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        if self._socket.exists():
            if not self._socket.is_socket():
                message = f"{self._socket} is there and is no socket"
                raise HamletError(message, mend="remove it, or set admin.socket")
            if await asyncio.to_thread(_answers, self._socket):
                message = f"another agent answers on {self._socket}"
                raise HamletError(message, mend="stop it, or set admin.socket")
            self._socket.unlink()
        mask = os.umask(0o177)  # the socket must never be open to others, not even for an instant
        try:
            self._server.add_insecure_port(f"unix:{self._socket}")
        except RuntimeError as error:
            message = f"cannot make the admin socket {self._socket}"
            mend = "set admin.socket to a path of at most 107 characters in a folder that we may write to"
            raise HamletError(message, mend=mend) from error
        finally:
            os.umask(mask)
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving and remove the socket."""
        await self._server.stop(1.0)
        self._socket.unlink(missing_ok=True)


def _answer(method: Method) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]:
    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return json.dumps(await method(json.loads(request))).encode()
        except HamletError as error:
            details = json.dumps({"error": str(error)[:LONGEST_ERROR], "mend": error.mend[:LONGEST_ERROR]})
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, details)

    return answer


def _answers(socket: Path) -> bool:
    try:
        call(socket, "ping", {}, timeout=2.0)
    except AgentUnreachable:
        return False
    return True


def call(socket: Path, method: str, request: Document, *, timeout: float = 30.0) -> Document:
    """Ask the agent; blocks. Raises `AgentUnreachable`, or `HamletError` with the agent's own words."""
    # A pool of its own: who was just refused at this path would else make us wait, although an agent is there by now.
    options = (*_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        ask = channel.unary_unary(f"/{SERVICE}/{method}", None, None)
        try:
            reply = ask(json.dumps(request).encode(), timeout=timeout)
            document: Document = json.loads(reply, object_hook=Said)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                said = json.loads(error.details() or "{}")
                raise HamletError(said["error"], mend=said["mend"]) from error
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                if socket.exists() and not os.access(socket, os.W_OK):
                    message = f"{socket} may not be opened: permission denied"
                    raise AgentUnreachable(
                        message, mend="run the command as the user that the agent runs as"
                    ) from error
                message = f"no agent answers on {socket}"
                raise AgentUnreachable(
                    message,
                    mend="start it with `hamlet run`, or wait a moment if you just did; -c names another file",
                ) from error
            message = f"the agent on {socket} failed: {error.code().name}: {error.details()}"
            raise HamletError(message, mend="its log has the cause") from error
    return document
