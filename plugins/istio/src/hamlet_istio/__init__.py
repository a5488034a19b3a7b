"""A Kubernetes cluster, with Istio or without, as a registry: the adapter of kind `istio`."""

__version__ = "0.1.0"
