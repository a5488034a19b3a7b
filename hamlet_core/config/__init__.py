"""hamlet.yaml: the model of what can be set, and the loader that knows the line of every key."""
