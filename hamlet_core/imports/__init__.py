"""What a registry should hold of other meshes, and what is held back. It decides and does no I/O.

`Reconciler` is the way in; the rules, the names, the diff and the brake are usable by themselves.
"""

from hamlet_core.imports.reconciler import Reconciler
from hamlet_core.imports.status import PeerImports, Settled, State

__all__ = ["PeerImports", "Reconciler", "Settled", "State"]
