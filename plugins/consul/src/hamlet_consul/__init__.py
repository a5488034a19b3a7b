"""A Consul datacenter as a registry of a Hamlet federation: its services out, other meshes' services in."""

__version__ = "0.1.0"
