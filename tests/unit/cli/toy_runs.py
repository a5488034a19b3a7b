"""Runs of `hamlet verify-adapter` with the plugin `toy`: configurations of it, and what a report says. No tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

from hamlet_core.api import CoordinatorSpec, GatewaySpec, RegistrySpec
from hamlet_core.api.testing import rules_of

Verify = Callable[..., "subprocess.CompletedProcess[str]"]
CONFIG = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: a.crt, key: a.key}
registries:
  local: {kind: file, path: mesh}
"""
TOYS = "  toy: {kind: toy}\n"
ALL = TOYS + "gateway: {kind: toy}\ncoordinator: {kind: toy}\n"
RULES = {
    "registry": set(rules_of(RegistrySpec)),
    "gateway": set(rules_of(GatewaySpec)) - {"G9"},  # which is about those that lead one way
    "coordinator": set(rules_of(CoordinatorSpec)),
}


def checks(report: dict[str, Any], result: str, role: str = "registry") -> set[str]:
    """The rules with a check that ended so."""
    return {
        rule["rule"]
        for subject in report["subjects"]
        if subject["role"] == role
        for rule in subject["rules"]
        for each in rule["checks"]
        if each["result"] == result
    }


def reasons(report: dict[str, Any], result: str) -> set[str]:
    """Why checks ended so."""
    return {
        each["reason"]
        for subject in report["subjects"]
        for rule in subject["rules"]
        for each in rule["checks"]
        if each["result"] == result
    }
