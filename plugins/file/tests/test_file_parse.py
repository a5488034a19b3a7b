"""What a file in services/ may say, and how exactly it is told what is wrong."""

import json
import subprocess
import sys

import pytest
from hamlet_file.parse import Malformed, parse

from hamlet_core.api import Endpoint, LocalService, Protocol, ServicePort

FULL = """\
name: shop
description: The shop
ports:
  - {name: web, port: 80, protocol: http}
  - {name: rpc, port: 9090, protocol: GRPC}
endpoints:
  - {address: 10.0.0.5, port: 8080, labels: [web]}
  - {address: 2001:DB8::1, port: 9090, labels: [rpc], description: the new one}
  - {address: 10.0.0.6, port: 8080, labels: [web], healthy: false}
tags: [v2]
labels: {team: shop, version: "1.10"}
sans: [spiffe://west.example/shop]
publish_to: [east]
"""


def test_a_full_service_is_read_with_its_healthy_endpoints():
    assert parse("services/shop.yaml", FULL.encode()) == (
        LocalService(
            name="shop",
            ports=(
                ServicePort(name="web", port=80, protocol=Protocol.HTTP),
                ServicePort(name="rpc", port=9090, protocol=Protocol.GRPC),
            ),
            endpoints=(
                Endpoint(address="10.0.0.5", port=8080, labels=("web",)),
                Endpoint(address="2001:db8::1", port=9090, labels=("rpc",), description="the new one"),
            ),
            description="The shop",
            tags=("v2",),
            labels={"team": "shop", "version": "1.10"},
            sans=("spiffe://west.example/shop",),
            publish_to=("east",),
        ),
    )


@pytest.mark.parametrize(
    ("name", "text", "services"),
    [
        ("one.yaml", "name: a\nport: 1\n", ["a"]),
        ("list.yaml", "- {name: a, port: 1}\n- {name: b, port: 2}\n", ["a", "b"]),
        ("documents.yaml", "name: a\nport: 1\n---\nname: b\nport: 2\n", ["a", "b"]),
        ("mixed.yml", "---\n- {name: a, port: 1}\n---\n---\nname: b\nport: 2\n", ["a", "b"]),
        ("none.yaml", "[]\n", []),
        ("bom.yaml", "\ufeffname: a\nport: 1\n", ["a"]),
        ("one.json", '{"name": "a", "port": 1}', ["a"]),
        ("tabs.json", '[\n\t{"name": "a", "port": 1},\n\t{"name": "b", "port": 2}]', ["a", "b"]),
    ],
)
def test_a_file_has_one_service_or_many(name, text, services):
    assert [service.name for service in parse(name, text.encode())] == services


def test_a_single_port_is_named_after_its_protocol():
    (service,) = parse("a.yaml", b"name: a\nport: 80\nprotocol: HTTP\n")
    assert service.ports == (ServicePort(name="http", port=80, protocol=Protocol.HTTP),)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("name: a\nport: 70000\n", ["f.yaml:2: port: must be at most 65535, not 70000"]),
        ("name: a\nport: '80'\n", ["f.yaml:2: port: must be a whole number, not '80'"]),
        ("name: a\nport: 80\nprot: TCP\n", ["f.yaml:3: prot: unknown key; known are name, port, protocol, ports"]),
        ("port: 80\n", ["f.yaml:1: name: this key is required"]),
        ("name: a\n", ["f.yaml:1: give either `port` (and `protocol`) or `ports`"]),
        ("name: Orders\nport: 1\n", ["f.yaml:1: name: 'Orders' must be lower-case letters"]),
        ("name: a\nport: 1\nprotocol: UDP\n", ["f.yaml:3: protocol: must be 'HTTP', 'HTTPS'"]),
        (
            "name: a\nport: 1\nlabels:\n  version: 1.10\n",
            ["f.yaml:4: labels.version: must be text, not 1.1: put it in quotes"],
        ),
        (
            "- name: a\n  port: 1\n- name: b\n  port: 2\n  endpoints:\n    - address: 10.0.0.1\n      prt: 1\n",
            ["f.yaml:6: [1].endpoints[0].port: this key is required", "f.yaml:7: [1].endpoints[0].prt: unknown key"],
        ),
        (
            "name: a\nport: 1\n---\nname: b\nport: 2\nendpoints:\n- {address: 'no such', port: 1}\n",
            ["f.yaml:7: endpoints[0].address: 'no such' must be"],
        ),
        ("name: a\nports: [{name: x, port: 1}]\nport: 2\n", ["give either `port`"]),
        ("name: a\nprotocol: TCP\nports: [{name: x, port: 1}]\n", ["each of them has its own `protocol`"]),
        ("name: a\nports: [{name: x, port: 1}, {name: x, port: 2}]\n", ["two of its `ports` have the same name"]),
        (
            "name: a\nports: [{name: x, port: 1}, {name: y, port: 2}]\nendpoints: [{address: 10.0.0.1, port: 3}]\n",
            ["endpoint 10.0.0.1:3 must name in `labels` the ports it serves"],
        ),
        ("name: a\nname: b\n", ["f.yaml:2: no YAML: while constructing a mapping, found duplicate key"]),
        ("name: [a\n", ["f.yaml:2: no YAML: "]),
        ("name: !!python/object:os.system a\nport: 1\n", ["f.yaml:1: no YAML: could not determine a constructor"]),
        ("just text\n", ["f.yaml:1: must be keys and values, not 'just text': write them below it"]),
        ("", ["f.yaml: it is empty; delete it to withdraw its services, or write []"]),
        ("---\n# nothing\n", ["f.yaml: it is empty"]),
    ],
)
def test_a_malformed_file_is_told_by_line_and_field(text, problems):
    with pytest.raises(Malformed) as refused:
        parse("f.yaml", text.encode())
    found = [str(problem) for problem in refused.value.problems]
    assert len(found) == len(problems)
    for problem, expected in zip(found, problems, strict=True):
        assert expected in problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"name": "a",\n "port": }', "f.json:2: no JSON: Expecting value"),
        (b'{"name": "a",\n "port": 0}', "f.json:2: port: must be at least 1, not 0"),
        (b"", "f.json: it is empty"),
        (b'{\n"name": "\xff"}', "f.json:2: it is not UTF-8 text"),
    ],
)
def test_malformed_json_is_told_too(text, problem):
    with pytest.raises(Malformed) as refused:
        parse("f.json", text)
    assert problem in str(refused.value)


def test_the_schema_is_there_for_editors():
    printed = subprocess.run(
        [sys.executable, "-m", "hamlet_file.schema"], capture_output=True, text=True, check=True
    ).stdout
    entry = json.loads(printed)["$defs"]["ServiceEntry"]
    assert entry["required"] == ["name"]
    assert entry["additionalProperties"] is False
    assert "publish_to" in entry["properties"]
