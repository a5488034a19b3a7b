"""An audit trail of every write a Hamlet agent makes into its registries."""

__version__ = "0.1.0"
