"""What two agents agree on beyond the plain protocol (`proto/hamlet/extensions/v1/extensions.proto`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

METADATA_KEY = "hamlet-extensions"

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """A set of extensions, offered or agreed. The default is the plain protocol.

    `window` is how many messages may be unacknowledged at a time.
    """

    snapshot: bool = False
    window: int = 1

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The gRPC metadata that offers or accepts this set."""
        words = (["snapshot"] if self.snapshot else []) + ([f"window={self.window}"] if self.window > 1 else [])
        return ((METADATA_KEY, ",".join(words)),) if words else ()

    def agree(self, other: Extensions) -> Extensions:
        """What both sides have."""
        return Extensions(snapshot=self.snapshot and other.snapshot, window=min(self.window, other.window))


OURS = Extensions(snapshot=True, window=256)
PLAIN = Extensions()


def from_metadata(metadata: Metadata | None) -> Extensions:
    """The set that a peer's metadata names; words we do not know are passed over, as the wire contract asks."""
    value = next((value for key, value in metadata or () if key == METADATA_KEY), "")
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    words = {word.strip() for word in text.split(",")}
    windows = [word.partition("=")[2] for word in words if word.startswith("window=")]
    # No longer ones: `int` refuses thousands of digits, and no window is that large.
    window = max((int(n) for n in windows if n.isascii() and n.isdigit() and len(n) < 10), default=1)
    return Extensions(snapshot="snapshot" in words, window=max(1, min(window, OURS.window)))
