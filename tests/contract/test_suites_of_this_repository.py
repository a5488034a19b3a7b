"""Every adapter of this repository runs the contract of its role: whole, and with no more time than others have.

The suites are read here, and run where they stand.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hamlet_core.api.testing import (
    CoordinatorContract,
    EgressContract,
    GatewayContract,
    IngressContract,
    RegistryContract,
)
from hamlet_core.api.testing.gateway_stage import GatewayStage
from hamlet_core.plugins.loader import installed

ROOT = Path(__file__).parents[2]
ROLES = {
    "RegistryContract": "registry",
    "GatewayContract": "gateway",
    "IngressContract": "gateway",
    "EgressContract": "gateway",
    "CoordinatorContract": "coordinator",
}
CONTRACTS = (RegistryContract, GatewayContract, IngressContract, EgressContract, CoordinatorContract)
KITS = {name for contract in CONTRACTS for name in dir(contract) if not name.startswith("__")}
OF_A_SUITE = {"backend", "names", "san", "other_san"}
"""What the kit leaves to a suite: its backend, and how things are called there."""
MARKS = {"pytest.mark.timeout", "pytest.mark.xdist_group"}
"""They leave nothing out, and let nothing fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A class of tests with a contract among its `bases`, which it may have by others of its file."""

    path: Path
    name: str
    contracts: frozenset[str]
    of_its_own: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()
    unknown: frozenset[str] = field(default=frozenset())

    def faults(self) -> list[str]:
        """What makes it another contract than the kit's."""
        return [
            *(f"it has a {each} of its own" for each in sorted(self.of_its_own & (KITS - OF_A_SUITE))),
            *(f"it is marked {each}" for each in sorted(self.marks - MARKS)),
            *(f"nobody can see what it has of {each}" for each in sorted(self.unknown)),
        ]


def suites_in(path: Path, text: str) -> Iterator[Suite]:
    """The suites of a file that pytest collects."""
    tree = ast.parse(text)
    classes = {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}
    shared = frozenset(
        mark
        for each in tree.body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "pytestmark"
        for mark in marks_in(each.value)
    )
    for each in classes.values():
        family, outside = [], set()
        waiting = [each.name]
        while waiting:
            name = waiting.pop()
            if name in classes:
                family.append(classes[name])
                waiting += [ast.unparse(base).rpartition(".")[2] for base in classes[name].bases]
            else:
                outside.add(name)
        if outside & ROLES.keys() and each.name.startswith("Test"):
            own = {name for one in family for name in names_in(one)}
            marks = {mark for one in family for decorator in one.decorator_list for mark in marks_in(decorator)}
            yield Suite(
                path=path,
                name=each.name,
                contracts=frozenset(outside & ROLES.keys()),
                of_its_own=frozenset(own),
                marks=marks | shared,
                unknown=frozenset(outside - ROLES.keys() - {GatewayStage.__name__}),
            )


def names_in(one: ast.ClassDef) -> Iterator[str]:
    """What a class defines."""
    for each in one.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield each.name
        elif isinstance(each, ast.Assign | ast.AnnAssign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def marks_in(value: ast.expr) -> list[str]:
    """The marks of a decorator, or of what stands after `pytestmark =`."""
    each = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    return [ast.unparse(mark.func if isinstance(mark, ast.Call) else mark) for mark in each]


def suites() -> list[Suite]:
    paths = [
        *ROOT.glob("plugins/*/tests/**/*.py"),
        *ROOT.glob("examples/*/tests/**/*.py"),
        *ROOT.glob("tests/**/*.py"),
    ]
    return [suite for path in sorted(paths) for suite in suites_in(path.relative_to(ROOT), path.read_text())]


def roles_in(folder: Path) -> set[str]:
    """The roles of the adapter types that the sources of a plugin name."""
    calls = (
        call
        for path in folder.glob("src/**/*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "AdapterType"
    )
    return {ast.literal_eval(each.value) for call in calls for each in call.keywords if each.arg == "role"}


@pytest.mark.parametrize("suite", suites(), ids=lambda suite: f"{suite.path.stem}-{suite.name}")
def test_a_suite_is_the_contract_as_it_is(suite):
    assert suite.faults() == []


def test_every_role_of_every_adapter_has_a_suite():
    folders = [*ROOT.glob("plugins/*"), *ROOT.glob("examples/*")]
    wanted = {(each.relative_to(ROOT), role) for each in folders for role in roles_in(each)}
    run = {(Path(*each.path.parts[:2]), ROLES[contract]) for each in suites() for contract in each.contracts}
    assert wanted - run == set()
    assert {path.name for path, _ in wanted} == {"file", "consul", "istio", "envoy", "hamlet-etcd"}


def test_the_sources_name_every_adapter_type_of_an_installed_plugin():
    ours = {f"hamlet-{each.name}": each for each in ROOT.glob("plugins/*") if (each / "pyproject.toml").exists()}
    found = {each.distribution: {one.role for one in each.adapters} for each in installed()}
    assert {name: found.get(name) for name in ours} == {name: roles_in(each) for name, each in ours.items()}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("class TestIt(RegistryContract):\n stop_deadline = 3600", "it has a stop_deadline of its own"),
        ("class TestIt(testing.RegistryContract):\n deadline: float = 3600", "it has a deadline of its own"),
        ("class TestIt(RegistryContract):\n def test_r8_one_change_that_fails_does_not_fail_the_others(self): pass",
         "it has a test_r8_one_change_that_fails_does_not_fail_the_others of its own"),
        ("class _It(CoordinatorContract):\n until = None\nclass TestIt(_It): pass", "it has a until of its own"),
        ("class Mixin:\n lead = None\nclass TestIt(Mixin, EgressContract): pass", "it has a lead of its own"),
        ("class TestIt(Mixin, EgressContract): pass", "nobody can see what it has of Mixin"),
        ("@pytest.mark.skip\nclass TestIt(GatewayContract): pass", "it is marked pytest.mark.skip"),
        ("pytestmark = [pytest.mark.xfail()]\nclass TestIt(GatewayContract): pass", "it is marked pytest.mark.xfail"),
    ],
)  # fmt: skip
def test_an_exception_is_seen(text, fault):
    (suite,) = suites_in(Path("test_it.py"), text)
    assert suite.faults() == [fault]


def test_a_suite_may_have_its_backend_and_checks_of_its_own():
    text = "class TestIt(RegistryContract):\n def backend(self): pass\n def test_more(self): pass"
    (suite,) = suites_in(Path("test_it.py"), text)
    assert suite.faults() == []
