"""The kit is right: gateways with one fault each are found by the check meant for it, and by no other rule's."""

from contextlib import contextmanager

from hamlet_core.api import GatewaySpec, GatewayUnavailable
from hamlet_core.api.testing import (
    EgressContract,
    GatewayContract,
    IngressContract,
    MemoryGateway,
    MemoryGatewayBackend,
)
from hamlet_core.api.testing.gateway_stage import GatewayAgents
from tests.contract import broken_answers, broken_gateways, broken_ways_out
from tests.contract.broken_ways_out import BySidecars, SidecarWorld
from tests.contract.finding import FindsFaults, checks_of, together

ONE_WAY = broken_gateways.ONE_WAY | broken_answers.ONE_WAY


class SettledWorld(MemoryGatewayBackend):
    """The world around a gateway of which everybody knows how it is reached."""

    def hide(self):
        return None


class TestGatewayFaults(FindsFaults):
    spec = GatewaySpec
    contracts = (GatewayContract, EgressContract, IngressContract)
    faults = together(broken_gateways.FAULTS, broken_ways_out.FAULTS, broken_answers.FAULTS)
    gross = broken_gateways.GROSS | broken_answers.GROSS
    sound = MemoryGateway
    ends = (*FindsFaults.ends, GatewayUnavailable, KeyError)

    def contract_of(self, check, made):
        return ONE_WAY.get(made) or super().contract_of(check, made)

    def checks_for(self, fault):
        return checks_of(ONE_WAY.get(fault, GatewayContract))

    @contextmanager
    def stage(self, contract, made, folder, seconds):
        gateway = made(ingress=contract is not EgressContract, egress=contract is not IngressContract)
        around = SettledWorld if getattr(gateway, "settled", False) else MemoryGatewayBackend
        backend = (SidecarWorld if isinstance(gateway, BySidecars) else around)(gateway)
        suite = contract()
        suite._backend = backend
        agents = GatewayAgents(backend, folder, suite.names)
        suite.deadline = suite.stop_deadline = seconds
        try:
            yield suite, {"backend": backend, "agents": agents}
        finally:
            gateway.over = True
            agents.stop_all()
