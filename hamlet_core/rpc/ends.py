"""How a stream ends: with a gRPC code and a reason a person understands."""

from __future__ import annotations

import grpc

from hamlet_core.api.errors import HamletError


class StreamEnd(HamletError):
    """The stream is over. `code` is a gRPC status, ours or the peer's."""

    def __init__(self, code: grpc.StatusCode, reason: str, *, mend: str = "") -> None:
        super().__init__(reason, mend=mend)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} ({self.code.name})"


CLOSED_CLEANLY = grpc.StatusCode.OK
REDUNDANT = StreamEnd(CLOSED_CLEANLY, "another stream carries both directions")
"""How a stream of ours ends that nothing needs any more. It is no failure."""
