"""The core of Hamlet: the protocol, policy and reconciliation of a service mesh federation.

It knows no vendor: registries and gateways come from separately installed packages that implement the
hooks of `hamlet_core.api` and import nothing else of this package.
"""

__version__ = "0.1.0"
