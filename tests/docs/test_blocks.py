"""Every block of code of every page is run, loaded or compared; one of a kind that nobody knows fails the build.

`CHECKS` says, in order, whose a block is. Blocks that a test of their own types or makes are claimed here too, by the
page and that test, and only those that the test reads: so none is left out because everybody took it for somebody
else's.
"""

from __future__ import annotations

import configparser
import importlib
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from hamlet_file.parse import parse
from ruamel.yaml import YAML

from docs.generate import PAGES
from hamlet_core.cli import main
from hamlet_core.config import load
from hamlet_core.config.model import Config
from hamlet_core.plugins.options import adapter_options
from tests.docs import test_writing_an_adapter as adapter
from tests.docs.blocks import ROOT, Block, blocks, pages
from tests.docs.test_shown import SHOWN
from tests.mixed import tutorial
from tests.support.shell import taken

ADAPTER = "docs/writing-an-adapter.md"
MIXED = tutorial.PAGE
TYPED = {
    "README.md": ("tests/e2e/test_quick_start.py", ("Quick start by hand", "Calls across: gateways")),
    "docs/tutorial-file.md": ("tests/docs/test_tutorials.py", ()),
    "docs/tutorial-consul.md": ("tests/docs/test_tutorials.py", ()),
    "docs/tutorial-istio.md": ("tests/docs/test_tutorials.py", ()),
    ADAPTER: ("tests/docs/test_writing_an_adapter.py", ("1. The scaffold",)),
}
"""Pages whose commands are typed, and compared with what they show, by a test of their own; below which headings.

What such a test does not read is not its own: it is checked as anything else.
"""
INSTALLING = "tests/docs/test_shell_installing.py"
OPERATING = "tests/docs/test_shell_operating.py"
REGISTRIES = "tests/docs/test_shell_registries.py"
VERIFYING = "tests/docs/test_shell_verifying.py"
ALONE = "tests/docs/test_shell_alone.py"
TYPED_BELOW = {
    ("README.md", "Install"): INSTALLING,
    ("docs/cli.md", "hamlet new-adapter"): INSTALLING,
    ("docs/operations.md", "Install as a service"): INSTALLING,
    ("docs/operations.md", "Upgrade"): OPERATING,
    ("docs/operations.md", "Back up and restore"): OPERATING,
    ("docs/operations.md", "Remove a peer for good"): OPERATING,
    (MIXED, "What each needs"): INSTALLING,
    (ADAPTER, "1. The scaffold"): INSTALLING,
    (ADAPTER, "7. Prove it"): "tests/docs/test_writing_an_adapter.py",
    ("examples/hamlet-audit/README.md", "Use"): INSTALLING,
    ("plugins/envoy/README.md", "Quick start"): INSTALLING,
    ("docs/cli.md", "hamlet verify-adapter"): VERIFYING,
    ("examples/hamlet-etcd/README.md", "Use"): REGISTRIES,
    ("examples/hamlet-etcd/README.md", "Rights"): REGISTRIES,
    ("plugins/envoy/README.md", "An Envoy of your own"): REGISTRIES,
    ("plugins/istio/README.md", "Quick start"): REGISTRIES,
    ("plugins/istio/README.md", "The gateway"): REGISTRIES,
    ("docs/cli.md", "hamlet pki"): ALONE,
    ("docs/cli.md", "hamlet pki init"): ALONE,
    ("docs/cli.md", "hamlet pki issue"): ALONE,
}
"""Headings of further pages: all commands below them are typed by this test, in surroundings of their own."""
MEASURED = "docs/benchmarks.md"
"""The one page whose commands are not all typed: they measure for minutes. `ALONE` says what is done with each."""
MINIMAL: dict[str, Any] = {
    "mesh": {"name": "here", "domain": "here.example", "trust_domain": "here.example"},
    "identity": {"certificate": "a.crt", "key": "a.key"},
    "registries": {"main": {"kind": "file", "path": "mesh"}},
}
NOT_INSTALLED = {"etcd": ("examples/hamlet-etcd/src", "hamlet_etcd.options", "EtcdOptions")}
"""Kinds of the examples, which are in no environment: where their options are."""
yaml = YAML(typ="safe")


# --- YAML --------------------------------------------------------------------------------------------------


def check_configuration(block: Block, folder: Path) -> None:
    """A hamlet.yaml, or keys of one: completed, it loads, and the adapters take their options."""
    document = {**MINIMAL, **yaml.load(block.text)}
    peers = document.setdefault("peers", {})
    for rule in document.get("publish", ()):
        for name in rule["to"] if rule["to"] != "all" else ():
            peers.setdefault(name, {"trust_domain": f"{name}.example", "bundle": "peer.pem"})
    for name, registry in document["registries"].items():
        if registry["kind"] in NOT_INSTALLED:
            check_example(**registry)
            document["registries"] = {**document["registries"], name: MINIMAL["registries"]["main"]}
    for name in re.findall(r"file:([\w./-]+)", block.text):
        (folder / name).write_text("secret")
    path = folder / "hamlet.yaml"
    with path.open("w") as file:
        yaml.dump(document, file)
    adapter_options(load.read(path, environ={"CONSUL_TOKEN": "t"}))


def check_example(kind: str, **options: object) -> None:
    source, module, name = NOT_INSTALLED[kind]
    sys.path.insert(0, str(ROOT / source))
    try:
        getattr(importlib.import_module(module), name).model_validate(options)
    finally:
        sys.path.remove(str(ROOT / source))


def check_services(block: Block, folder: Path) -> None:
    """A file of services/, as hamlet-file reads it."""
    assert parse("services/page.yaml", block.text.encode()), block.where


def check_alerts(block: Block, folder: Path) -> None:
    """Rules of Prometheus; that their metrics exist is tested in tests/unit/docs/test_pages.py."""
    rules = [rule for group in yaml.load(block.text)["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for"}
        assert rule["expr"].count("(") == rule["expr"].count(")")


# --- commands ----------------------------------------------------------------------------------------------


def check_command(words: list[str], where: str) -> None:
    """One command of hamlet, parsed and not run."""
    command: click.Command = main
    context = None
    while True:
        try:
            context = command.make_context(command.name, list(words), parent=context)
        except click.exceptions.Exit:  # --help and --version
            return
        except click.UsageError as error:
            raise AssertionError(f"{where}: hamlet {' '.join(words)}: {error.message}") from error
        if not isinstance(command, click.Group):
            return
        words = [*context._protected_args, *context.args]
        _, found, words = command.resolve_command(context, words)
        assert found is not None, where
        command = found


def check_python(block: Block, folder: Path) -> None:
    """A program: it runs."""
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{block.where}: {done.stderr}"


def check_unit(block: Block, folder: Path) -> None:
    """A unit of systemd: its sections, and the commands of hamlet in it."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(block.text)
    assert {"Unit", "Service", "Install"} == set(parser.sections())
    for key in ("ExecStartPre", "ExecStart"):
        words = shlex.split(parser["Service"][key])
        assert words[0].endswith("/hamlet")
        check_command(words[1:], block.where)


# --- the rest ----------------------------------------------------------------------------------------------

POLICY = re.compile(
    r'(agent|key|node|service|session)(_prefix)? "[^"]*" \{( (policy|intentions) = "(read|write|deny)")+ \}'
    r'|operator = "(read|write)"'
)


def check_policy(block: Block, folder: Path) -> None:
    """Rules of Consul's ACL, one a line."""
    for line in block.text.splitlines():
        assert not line or line.startswith("#") or POLICY.fullmatch(line), f"{block.where}: {line}"


def check_json(block: Block, folder: Path) -> None:
    for line in [block.text] if block.text.startswith(("{\n", "[\n")) else block.text.splitlines():
        json.loads(line)


def check_toml(block: Block, folder: Path) -> None:
    tomllib.loads(block.text)


def check_typed(block: Block, folder: Path) -> None:
    """A block that `is_typed`: the test that does names its page."""
    test = (ROOT / TYPED[block.page][0]).read_text(encoding="utf-8")
    assert Path(block.page).name in test


def check_made(block: Block, folder: Path) -> None:
    """A block that `is_made`: there is nothing else to say of it here."""


def check_tests(block: Block, folder: Path) -> None:
    """What pytest prints when all is well: a dot for each test that passed. How many is a test's of its page."""
    found = re.fullmatch(r"((?:\.+ +\[ *\d+%\]\n)+)(\d+) passed in [\d.]+s\n", block.text)
    assert found, f"{block.where}: this is not what pytest prints"
    assert found[1].count(".") == int(found[2]), f"{block.where}: another number of dots than of tests"


def check_typed_below(block: Block, folder: Path) -> None:
    """Commands that a test types: it asks for all of those below the heading, and must say what it does with each."""
    test = (ROOT / TYPED_BELOW[block.page, block.heading]).read_text(encoding="utf-8")
    assert f'"{block.page}"' in test
    assert f'"{block.heading}"' in test


def check_measured(block: Block, folder: Path) -> None:
    """Commands that measure: each line is looked at by a test."""
    assert block.page in (ROOT / ALONE).read_text(encoding="utf-8")


def check_generated(block: Block, folder: Path) -> None:
    """A part of a page that is compared with the code as a whole."""
    assert Path(block.page).name in PAGES


def check_signature(block: Block, folder: Path) -> None:
    """A hook's signature, on a page that is compared with the code as a whole."""
    assert re.fullmatch(r"\w+\(.*\) -> .*\n", block.text), block.where


COMMANDS = (
    *("hamlet", "pip", "python3?", "pytest", "make", "kubectl", "consul", "etcdctl", "envoy", "promtool"),
    *(
        "openssl",
        "curl",
        "dig",
        "sudo",
        "systemctl",
        "cat",
        "cp",
        "mv",
        "rm",
        "mkdir",
        "chmod",
        "export",
        "kill",
        "sed",
    ),
)


def check_drawing(block: Block, folder: Path) -> None:
    """A drawing: nothing that one could type."""
    assert re.search("[─═▶◀→]", block.text), f"{block.where}: text that follows no command and is no drawing"
    typed = re.search(rf"^(\$|{'|'.join(COMMANDS)}) ", block.text, re.MULTILINE)
    assert not typed, f"{block.where}: a command in a text: {typed}"
    ruled = re.search(r"^ *─+ *$", block.text, re.MULTILINE)
    assert not ruled, f"{block.where}: a table of hamlet that follows no command"


# --- whose a block is --------------------------------------------------------------------------------------


def top(block: Block) -> Any:
    return yaml.load(block.text)


def keys_of_hamlet(block: Block) -> bool:
    document = top(block)
    return isinstance(document, dict) and document.keys() <= Config.model_fields.keys()


def is_made(block: Block) -> bool:
    """Whether a test writes what this block shows, types it, or compares it: that test's own list has it."""
    if block.page == MIXED:
        return block in tutorial.READ
    if block in SHOWN:
        return True
    return block.page == ADAPTER and (block in adapter.shown() or (block in adapter.modules().values()))


def is_typed(block: Block) -> bool:
    """Whether the test of its page, which goes by `tests.support.shell.steps`, types this block or compares it."""
    if block.page not in TYPED:
        return False
    _, headings = TYPED[block.page]
    text = (ROOT / block.page).read_text(encoding="utf-8")
    return (not headings or block.heading in headings) and (block.language, block.text) in taken(text)


CHECKS: list[tuple[Callable[[Block], object], Callable[[Block, Path], None]]] = [
    (lambda b: b.page == MIXED and b.language == "yaml" and keys_of_hamlet(b), check_configuration),
    (is_made, check_made),
    (is_typed, check_typed),
    (lambda b: b.language == "sh" and (b.page, b.heading) in TYPED_BELOW, check_typed_below),
    (lambda b: b.language == "sh" and b.page == MEASURED, check_measured),
    (lambda b: b.language == "text" and (b.page, b.heading) == (ADAPTER, "7. Prove it"), check_tests),
    (lambda b: b.language == "yaml" and keys_of_hamlet(b), check_configuration),
    (lambda b: b.language == "yaml" and "groups" in top(b), check_alerts),
    (lambda b: b.language == "yaml" and b.page == "plugins/file/README.md", check_services),
    (lambda b: b.language == "python", check_python),
    (lambda b: b.language == "ini", check_unit),
    (lambda b: b.language == "hcl", check_policy),
    (lambda b: b.language == "json", check_json),
    (lambda b: b.language == "toml", check_toml),
    (lambda b: b.language == "text" and b.page == "docs/hooks.md", check_signature),
    (lambda b: b.language == "text" and b.page == "docs/cli.md", check_generated),
    (lambda b: b.language == "text", check_drawing),
]


def check_of(block: Block) -> Callable[[Block, Path], None]:
    for fits, check in CHECKS:
        if fits(block):
            return check
    message = f"{block.where}: nobody checks a block of {block.language or 'no'} language, titled {block.title!r}"
    raise AssertionError(message)


ALL = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=lambda block: f"{block.where}-{block.language}")
def test_a_block_is_what_it_shows(block: Block, tmp_path: Path) -> None:
    check_of(block)(block, tmp_path)


def test_every_check_has_a_block() -> None:
    used = {check_of(block) for block in ALL}
    assert {check for _, check in CHECKS} - used <= {check_toml, check_python, check_json}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_code_is_fenced_and_says_its_language(page: Path) -> None:
    text = re.sub(r"^( *)(`{3,}).*?^\1\2$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = text.splitlines()
    for before, line in itertools.pairwise(["", *lines]):
        indented = line.startswith("    ") and not before.strip() and not re.match(r" +([-*]|\d+\.) ", line)
        assert not indented, f"a block that is indented, not fenced: {line}"
    assert all(block.language for block in blocks(page))


def block_of(language: str, text: str, *, page: str = "docs/x.md", title: str = "", heading: str = "") -> Block:
    return Block(page=page, line=1, language=language, title=title, heading=heading, text=text)


@pytest.mark.parametrize(
    "wrong",
    [
        block_of("yaml", "registries:\n  a: {kind: consul, adress: x}\n"),
        block_of("yaml", "listen: nowhere\n"),
        block_of("yaml", "registries:\n  a: {kind: etcd, prefix: ''}\n"),
        block_of("yaml", "name: x\nport: none\n", page="plugins/file/README.md"),
        block_of("yaml", "something: else\n"),
        block_of("sh", "hamlet run\n"),
        block_of("sh", "useradd hamlet\n", title="as root"),
        block_of("python", "import nothing_of_that_name\n"),
        block_of("ini", "[Unit]\n[Service]\nExecStart=/x/hamlet fly\nExecStartPre=/x/hamlet run\n[Install]\n"),
        block_of("hcl", "node_prefix {}\n"),
        block_of("json", "{\n"),
        block_of("toml", "a = \n"),
        block_of("text", "some words\n"),
        block_of("text", "west ──▶ east\nkubectl get pods\n"),
        block_of("text", "peer   state\n────────────\neast   live\n"),
        # What its page's test does not read is not exempt, wherever it stands.
        block_of("text", "dig +short stock\n", page=MIXED, heading="6. From Kubernetes to Consul"),
        block_of("text", "west ── east\n$ curl http://a/\n", page=MIXED, heading="7. Withdraw"),
        block_of("sh", "hamlet status\n", page=MIXED, title="nowhere", heading="4. Start"),
        block_of("hcl", "service { name = 1 }\n", page=MIXED, title="orders", heading="4. Start"),
        block_of("text", "ok   a claim\n", page="docs/tutorial-file.md"),
        block_of("sh", "hamlet status\n", page="docs/tutorial-consul.md", title="perhaps"),
        block_of("text", "a claim\n", page="README.md", heading="Quick start by hand"),
        block_of("sh", "make lunch\n", page="README.md", heading="Two commands"),
        block_of("python", "class TestNothing: ...\n1 / 0\n", page=ADAPTER, heading="A coordinator"),
        block_of("python", "1 / 0\n", page=ADAPTER, title="src/elsewhere", heading="2. "),
        block_of("text", ".. [100%]\n3 passed in 1.0s\n", page=ADAPTER, heading="7. Prove it"),
        block_of("text", "Two meshes in /tmp/x: west and east\n✓ lunch\n", title="what make demo prints"),
        block_of("yaml", "local_name: a\nmark: {peer: east}\n", page="plugins/file/README.md"),
        block_of("rust", "fn main() {}\n"),
    ],
    ids=lambda block: f"{block.language}: {block.text.splitlines()[-1]}",
)
def test_a_block_that_is_wrong_or_unknown_fails(wrong: Block, tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each check has its own
        check_of(wrong)(wrong, tmp_path)
    assert str(caught.value)
