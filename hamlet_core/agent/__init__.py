"""The running agent: it wires the parts together, keeps them running and tells how they are."""
