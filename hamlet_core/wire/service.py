"""What both protocol versions say of a service in the same way: SANs, labels of ours, protocols."""

from __future__ import annotations

NAME_LABEL = "hamlet.federation/name"
"""Carries a v1alpha1 service's human-readable name through the neutral model, whose name is the key."""

_URI = "URI:"


def plain_san(san: str) -> str:
    """A subject alternative name without the `URI:` that some peers write before it."""
    return san[len(_URI) :] if san[: len(_URI)].upper() == _URI else san
