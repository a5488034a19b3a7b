"""etcd as a registry of a Hamlet federation."""
