"""The kit for adapters: the contract as a test suite, and a registry in memory (extra `hamlet-core[testing]`).

A plugin's test module subclasses `RegistryContract`, gives it a `backend` and has every rule of
`RegistrySpec` checked on the real thing:

    class TestContract(RegistryContract):
        @pytest.fixture
        def backend(self, tmp_path):
            return FolderBackend(tmp_path)

Each check is called after the rule it comes from (`test_r3_...`), and `rules_of` has the rules' own words.
`hamlet verify-adapter` runs the same checks, of every role, against a live backend. `GatewayContract` does the
same for the rules of `GatewaySpec`, `IngressContract` and `EgressContract` for a gateway that leads calls one way
only; its `GatewayBackend` offers the workloads and meshes that call, and are called, and `GatewayWorld` is one of
real certificates and connections on loopback, which lacks but the gateway.
`CoordinatorContract` has those of `CoordinatorSpec`, over a `CoordinatorBackend`.
"""

from hamlet_core.api.testing.rewritten import explain_assertions

explain_assertions()

from hamlet_core.api.testing.backend import RegistryBackend  # noqa: E402 - after the line above, by its nature
from hamlet_core.api.testing.contract import RegistryContract  # noqa: E402
from hamlet_core.api.testing.coordinator_backend import CoordinatorBackend  # noqa: E402
from hamlet_core.api.testing.coordinator_contract import CoordinatorContract  # noqa: E402
from hamlet_core.api.testing.gateway_backend import Connection, GatewayBackend  # noqa: E402
from hamlet_core.api.testing.gateway_contract import EgressContract, GatewayContract, IngressContract  # noqa: E402
from hamlet_core.api.testing.gateway_world import GatewayWorld  # noqa: E402
from hamlet_core.api.testing.left_out import not_run  # noqa: E402
from hamlet_core.api.testing.memory import MemoryRegistry  # noqa: E402
from hamlet_core.api.testing.memory_coordinator import MemoryCoordinator  # noqa: E402
from hamlet_core.api.testing.memory_gateway import MemoryGateway  # noqa: E402
from hamlet_core.api.testing.memory_world import MemoryGatewayBackend  # noqa: E402
from hamlet_core.api.testing.names import LIVE_NAMES, Names  # noqa: E402
from hamlet_core.api.testing.relay import Relay  # noqa: E402
from hamlet_core.api.testing.rules import Rule, rules_of  # noqa: E402
from hamlet_core.api.testing.samples import imported_service, local_service  # noqa: E402
from hamlet_core.api.testing.watching import Watching  # noqa: E402

__all__ = [
    "LIVE_NAMES",
    "Connection",
    "CoordinatorBackend",
    "CoordinatorContract",
    "EgressContract",
    "GatewayBackend",
    "GatewayContract",
    "GatewayWorld",
    "IngressContract",
    "MemoryCoordinator",
    "MemoryGateway",
    "MemoryGatewayBackend",
    "MemoryRegistry",
    "Names",
    "RegistryBackend",
    "RegistryContract",
    "Relay",
    "Rule",
    "Watching",
    "imported_service",
    "local_service",
    "not_run",
    "rules_of",
]
