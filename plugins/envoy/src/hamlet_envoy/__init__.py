"""Envoy as the gateway of a mesh in a Hamlet federation: calls in, by SNI, and calls out, over mTLS."""

__version__ = "0.1.0"
