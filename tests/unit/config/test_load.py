from __future__ import annotations

import copy
import json
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, field_validator

from hamlet_core.api import AdapterOptions, ConfigError
from hamlet_core.config.load import Loaded, load, read
from hamlet_core.config.problems import ConfigProblems, Problem, dotted, undotted
from hamlet_core.config.references import MAX_FILE_BYTES, Referenced

GOOD = """\
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity:
  certificate: pki/agent.crt
  key: /etc/hamlet/agent.key
registries:
  local:
    kind: file
    path: registry
"""
PEER = """\
peers:
  east:
    bundle: peers/east.pem
    trust_domain: east.example
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def _write(text: str) -> Path:
        path = tmp_path / "hamlet.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def _problems(path: Path, **environ: str) -> list[tuple[str, str, str, str]]:
    with pytest.raises(ConfigProblems) as refused:
        read(path, environ=environ)
    prefix = f"{path}"
    return [(p.where.removeprefix(prefix), p.key, p.message, p.mend) for p in refused.value.problems]


def test_relative_paths_start_at_the_folder_of_the_file(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(GOOD + PEER)
    monkeypatch.chdir(tmp_path.parent)
    config = load(path.relative_to(tmp_path.parent), environ={})
    assert config.identity.certificate == tmp_path / "pki/agent.crt"
    assert config.identity.key == Path("/etc/hamlet/agent.key")
    assert config.identity.bundle is None
    assert config.admin.socket == tmp_path / "hamlet.sock"
    assert config.peers["east"].bundle == tmp_path / "peers/east.pem"
    assert config.registries["local"].options == {"path": "registry"}


def test_times_and_look_alikes_are_read_as_the_key_wants_them(write: Any) -> None:
    rule = "publish:\n  - {to: all, from: 2026-03-01T08:00:00+01:00, direct: yes}\n"
    found = load(write(GOOD + rule + PEER), environ={}).publish[0]
    assert (str(found.from_), found.direct) == ("2026-03-01 08:00:00+01:00", True)


def test_settings_that_peers_share_can_be_merged(write: Any) -> None:
    text = GOOD + (
        "peers:\n"
        "  east: &shared {bundle: east.pem, trust_domain: east.example, retain: 1h}\n"
        "  north:\n    <<: *shared\n    trust_domain: north.example\n"
        "  south:\n    <<: [{quiet: 3s, bundle: s.pem}, *shared]\n    trust_domain: south.example\n"
    )
    peers = load(write(text), environ={}).peers
    assert peers["north"].retain == peers["east"].retain
    assert peers["north"].trust_domain == "north.example"
    assert peers["south"].bundle.name == "s.pem"
    assert peers["south"].quiet.total_seconds() == 3


def test_every_problem_is_reported_at_once_by_line_with_its_mend(write: Any) -> None:
    text = GOOD.replace("west.example, trust", "West, trust") + (
        "listen: 8008\n"
        "publish:\n"
        "  - to: [east]\n"
        "    until: 2026-03-01T08:00:00\n"
        "  - select: {tags: shop}\n"
        "peers:\n"
        "  east:\n"
        "    trust_domain: east.example\n"
        "    retain: soon\n"
        "    retan: 5s\n"
        "    api: v1\n"
    )
    assert _problems(write(text)) == [
        (
            ":1",
            "mesh.domain",
            "'West' is no domain name: lower-case labels of letters, digits and hyphens, joined by dots",
            "",
        ),
        (":9", "listen", "must be text, not 8008", "put it in quotes"),
        (
            ":12",
            "publish[0].until",
            "must have a zone, not '2026-03-01T08:00:00'",
            "write for example 2026-03-01T08:00:00Z",
        ),
        (":13", "publish[1].select.tags", "must be a list, not 'shop'", "write for example [a, b]"),
        (
            ":13",
            "publish[1].to",
            "this key is required",
            "Names of peers, or all; an empty list keeps what the rule selects from everybody.",
        ),
        (
            ":15",
            "peers.east.bundle",
            "this key is required",
            "PEM file: the authorities of this peer, exchanged by hand.",
        ),
        (":17", "peers.east.retain", "'soon' is no duration: write for example 30s, 10m, 24h or 1h30m", ""),
        (
            ":18",
            "peers.east.retan",
            "unknown key",
            (
                "did you mean retain? allowed here: address, bundle, trust_domain, spiffe_id, dns_name, fingerprint,"
                " api, context, accept, allow_endpoints, import_into, retain, quiet, max_services, max_message_bytes,"
                " ack_timeout, backoff_cap, brake"
            ),
        ),
        (":19", "peers.east.api", "must be 'v1alpha1', 'v1alpha2' or 'auto', not 'v1'", ""),
    ]


def test_an_error_reads_as_one_line_per_problem(write: Any) -> None:
    path = write(GOOD + "listn: 1\nlog: {level: loud}\n")
    with pytest.raises(ConfigProblems) as refused:
        load(path, environ={})
    assert str(refused.value).splitlines() == [
        (
            f"{path}:9: listn: unknown key (did you mean listen? allowed here: mesh, identity, listen, admin, log,"
            " plugins, registries, gateway, egress, coordinator, publish, peers)"
        ),
        f"{path}:10: log.level: must be 'debug', 'info', 'warning' or 'error', not 'loud'",
    ]
    assert refused.value.where == f"{path}:9"
    assert isinstance(refused.value, ConfigError)


def test_what_contradicts_another_section_is_reported_where_it_stands(write: Any) -> None:
    text = (
        GOOD
        + PEER
        + "    import_into: [other]\n    spiffe_id: spiffe://east.example/a\npublish:\n- to: [east, nrth]\n"
    )
    assert _problems(write(text)) == [
        (":13", "peers.east.import_into[0]", "'other' is not among the registries (local)", ""),
        (":16", "publish[0].to[1]", "'nrth' is not among the peers (east)", ""),
    ]
    text = GOOD + PEER + "    spiffe_id: spiffe://other.example/a\n"
    message = "'spiffe://other.example/a' must lie in the peer's trust_domain (east.example)"
    assert _problems(write(text)) == [(":13", "peers.east.spiffe_id", message, "")]


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("admin: {socket: ${DIR}/a}", 'put the reference in quotes: "${NAME}"'),
        ("plugins: [a, ${NAME:-b}]", 'put the reference in quotes: "${NAME}"'),
        ("log: {\n  level: debug,\n  format: x${A}\n}", 'put the reference in quotes: "${NAME}"'),
        ("admin: {socket: '${DIR}/a'", "check indentation and quotes"),
        ("admin: {socket: a} # ${DIR}\nlog: }", "check indentation and quotes"),
    ],
)
def test_a_reference_within_braces_is_told_to_want_quotes(write: Any, line: str, mend: str) -> None:
    ((_, _, message, found),) = _problems(write(f"{GOOD}{line}\n"))
    assert message.startswith("not YAML: ")
    assert found == mend


NOT_YAML = [
    ("mesh:\n  name: [a\n", ":3:1", "not YAML: "),
    ("mesh: a: b\n", ":1:8", "not YAML: mapping values are not allowed here"),
    ("\tmesh: a\n", ":1:1", "not YAML: "),
    ("mesh: *nobody\n", ":1:7", "undefined alias"),
    ("mesh: 1\n---\nmesh: 2\n", ":2:1", "another document"),
    ("mesh: \x01\n", "", "special characters"),
    ("mesh: {name: a, name: b}\n", ":1", "given twice, first in line 1"),
    ("mesh:\n  name: a\n  domain: b\n  name: c\n", ":4", "given twice, first in line 2"),
    ("? [a]\n: b\n", ":1", "a key must be text"),
    ("mesh: !!python/object:os.system {}\n", ":1", "the tag !!python/object:os.system is not taken here"),
    ("mesh: !secret x\n", ":1", "the tag !secret is not taken here"),
    ("mesh: !!int x\n", ":1", "not a value of the tag !!int"),
    ("mesh: !!binary aGFs\n", ":1", "the tag !!binary is not taken here"),
    ("mesh: &a [*a]\n", ":1", "too deeply nested"),
    ("mesh: &a\n  <<: *a\n", ":1", "too deeply nested"),
    ("mesh:\n  <<: 5\n", ":2", "merges mappings alone"),
    ("", ":1", "is empty"),
    ("# nothing\n", ":1", "is empty"),
    ("- mesh\n", ":1", "must hold keys and values"),
    ("mesh\n", ":1", "must hold keys and values"),
]


@pytest.mark.parametrize(("text", "where", "said"), NOT_YAML)
def test_what_is_no_configuration_at_all_is_said_with_its_line(write: Any, text: str, where: str, said: str) -> None:
    problems = _problems(write(text))
    assert problems[0][0] == where
    assert said in problems[0][2]


def test_aliases_of_aliases_are_stopped_before_they_fill_the_memory(write: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    problems = _problems(write("\n".join(lines)))
    assert [message for _, _, message, _ in problems] == ["too many or too deeply nested values"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file") as missing:
        load(tmp_path / "nowhere.yaml")
    assert "hamlet init" in missing.value.mend
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"mesh: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8 text: byte 9 is 0xe9"):
        load(tmp_path / "latin.yaml")


def test_references_are_filled_in_before_the_values_are_judged(write: Any, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/token").write_text("from-file\n\n")
    text = GOOD + (
        "    token: file:secrets/token\n"
        "    other: file:${FOLDER}/token\n"
        "    url: https://${USER}:${PASS}@host/$${literal}/$5\n"
        "    nested: {list: ['${USER}', plain]}\n"
        "listen: 0.0.0.0:${PORT:-8008}\n" + PEER + "    max_services: ${MANY}\n    retain: ${UNSET:-}2h\n"
        "    context: ${EMPTY:-default}\n"
    )
    environ = {"USER": "u", "PASS": "file:not-a-reference", "MANY": "50", "FOLDER": "secrets", "EMPTY": ""}
    config = load(write(text), environ=environ)
    options = config.registries["local"].options
    assert options["token"] == "from-file\n"  # one newline is the editor's, the other the secret's
    assert options["other"] == "from-file\n"
    assert options["url"] == "https://u:file:not-a-reference@host/${literal}/$5"
    assert options["nested"] == {"list": ["u", "plain"]}
    assert config.listen == "0.0.0.0:8008"
    assert (config.peers["east"].max_services, config.peers["east"].context) == (50, "default")


BROKEN_REFERENCES = [
    ("${NOBODY}", "the environment variable NOBODY is not set", "set it, or write ${NOBODY:-default}"),
    ("a${", "'${' is no reference", "write ${NAME} or ${NAME:-default}, and $${ for a literal ${"),
    ("${a b}", "'${a b}' is no reference", "write ${NAME} or ${NAME:-default}, and $${ for a literal ${"),
    (
        "file:nowhere",
        "file:nowhere: there is no file {dir}/nowhere",
        "write the value there, for the agent's user to read",
    ),
    ("file:", "file:: there is no file {dir}", "write the value there, for the agent's user to read"),
    ("file:${SECRET}", "file:${SECRET}: there is no file", "write the value there, for the agent's user to read"),
    (
        "file:large",
        f"file:large: the file is larger than {MAX_FILE_BYTES} bytes",
        "name a file that holds the value alone",
    ),
    ("file:latin", "file:latin: the file is not UTF-8 text", "name a file that holds the value alone"),
    (
        "file:locked/x",
        "file:locked/x: there is no file {dir}/locked/x",
        "write the value there, for the agent's user to read",
    ),
]


@pytest.mark.parametrize(("value", "message", "mend"), BROKEN_REFERENCES)
def test_a_reference_to_nothing_is_reported_with_its_line(
    write: Any, tmp_path: Path, value: str, message: str, mend: str
) -> None:
    (tmp_path / "large").write_text("x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    path = write(GOOD + f"    token: '{value}'\n" + "listn: 1\n")
    problems = _problems(path, SECRET="hush")
    assert problems[0] == (":9", "registries.local.token", message.replace("{dir}", str(tmp_path)), mend)
    assert [key for _, key, _, _ in problems[1:]] == ["listn"]  # the others are reported too


def test_a_key_that_takes_a_path_takes_no_content(write: Any) -> None:
    problems = _problems(write(GOOD.replace("/etc/hamlet/agent.key", "file:/etc/hamlet/agent.key")))
    assert problems == [(":4", "identity.key", "this key takes the path itself", "write the path without file:")]


SECRET = "hush-hush, isn't it"

LEAKS = [
    "listen: ${S}",
    "listen: '[${S}]:8008'",
    "log: {level: '${S}'}",
    "admin: {http: '${S}:80'}",
    "surprise: ${S}",
    "publish: [{to: ['${S}']}]",
    "publish: [{to: all, select: {registry: '${S}'}}]",
    "publish: [{to: all, name: '${S}'}]",
    "publish: [{to: all, from: '${S}'}]",
    "publish: [{to: all, direct: '${S}'}]",
    "publish: '${S}'",
    "gateway: '${S}'",
    "gateway: {endpoints: ['${S}'], sans: [a]}",
    "peers: {east: {bundle: a, trust_domain: '${S}'}}",
    "peers: {east: {bundle: a, trust_domain: b, spiffe_id: '${S}'}}",
    "peers: {east: {bundle: a, fingerprint: '${S}'}}",
    "peers: {east: {bundle: a, trust_domain: b, retain: '${S}'}}",
    "peers: {east: {bundle: a, trust_domain: b, max_services: '${S}'}}",
    "peers: {east: {bundle: a, trust_domain: b, allow_endpoints: ['${S}']}}",
    "peers: {east: {bundle: a, trust_domain: b, import_into: ['${S}']}}",
    "peers: {east: {bundle: a, trust_domain: b, brake: {share: '${S}'}}}",
]


@pytest.mark.parametrize("line", LEAKS)
def test_no_error_shows_what_a_reference_stands_for(write: Any, line: str) -> None:
    with pytest.raises(ConfigProblems) as refused:
        load(write(GOOD + line + "\n"), environ={"S": SECRET})
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value.problems)
    assert "hush" not in shown
    assert refused.value.problems[0].where.endswith(":9")


def test_a_rule_about_two_keys_quotes_the_reference_in_place_of_its_value(write: Any) -> None:
    text = GOOD + PEER.replace("east.example", "${DOMAIN}")
    problems = _problems(write(text), DOMAIN="west.example")
    message = "'${DOMAIN}' is the trust domain of this mesh already; each mesh has its own"
    assert problems == [(":12", "peers.east.trust_domain", message, "")]


def test_what_a_reference_stands_for_is_used_and_not_printed(write: Any) -> None:
    text = GOOD + "    token: ${S}\n    deep: [{token: '${S}'}]\n" + PEER + "    context: ${S}\n"
    loaded = read(write(text), environ={"S": SECRET})
    assert loaded.config.peers["east"].context == SECRET
    assert loaded.config.registries["local"].options["deep"] == [{"token": SECRET}]
    assert "hush" not in repr(loaded)
    assert "hush" not in repr(loaded.config.registries["local"].options)


def test_a_referenced_text_stays_secret_when_it_is_copied() -> None:
    text = Referenced("hush", "${S}")
    for copied in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert (repr(copied), str(copied), json.dumps(copied)) == ("'${S}'", "hush", '"hush"')


class Options(AdapterOptions):
    path: Path
    token: SecretStr | None = None
    level: int = 1

    @field_validator("path")
    @classmethod
    def _known(cls, value: Path) -> Path:
        if value.name == "bad":
            message = f"{value} is bad"
            raise ValueError(message)
        return value


def _options(loaded: Loaded) -> Options:
    return loaded.options(("registries", "local"), loaded.config.registries["local"].options, Options)


def test_options_of_an_adapter_are_read_by_its_own_model(write: Any) -> None:
    options = _options(read(write(GOOD + "    token: ${S}\n"), environ={"S": SECRET}))
    assert (options.path, options.token) == (Path("registry"), SecretStr(SECRET))


def test_wrong_options_of_an_adapter_are_reported_with_their_lines(write: Any) -> None:
    text = GOOD.replace("registry\n", "bad\n") + "    tokn: a\n    level: ${S}\n"
    with pytest.raises(ConfigProblems) as refused:
        _options(read(write(text), environ={"S": SECRET}))
    found = [(p.where.rpartition(":")[2], p.key, p.message, p.mend) for p in refused.value.problems]
    assert found == [
        ("8", "registries.local.path", "bad is bad", ""),
        ("9", "registries.local.tokn", "unknown key", "did you mean token? allowed here: path, token, level"),
        ("10", "registries.local.level", "must be a whole number", ""),
    ]


def test_an_adapters_own_message_does_not_show_a_reference_either(write: Any) -> None:
    with pytest.raises(ConfigProblems) as refused:
        _options(read(write(GOOD.replace("path: registry", "path: '${S}'")), environ={"S": "bad"}))
    assert [p.message for p in refused.value.problems] == ["what ${S} stands for is not right here"]


def test_options_that_are_missing_are_reported_at_their_registry(write: Any) -> None:
    with pytest.raises(ConfigProblems) as refused:
        _options(read(write(GOOD.replace("    path: registry\n", "")), environ={}))
    assert [(p.where[-2:], p.key) for p in refused.value.problems] == [(":6", "registries.local.path")]


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("registries.local.path", 8),
        ("registries.local.nothing.below", 6),
        ('publish[0].select.labels["app.example/part"]', 10),
        ("publish[1]", 9),
        ("unknown", 1),
        ("", 1),
    ],
)
def test_a_key_is_found_in_the_file_or_the_nearest_one_above_it(write: Any, key: str, line: int) -> None:
    path = write(GOOD + "publish:\n  - {to: all, select: {labels: {app.example/part: shop}}}\n")
    loaded = read(path, environ={})
    assert loaded.locate(key) == f"{path}:{line}"
    assert loaded.locate(undotted(key)) == f"{path}:{line}"


@pytest.mark.parametrize(
    "loc", [(), ("mesh",), ("publish", 0, "to", 12), ("select", "labels", "a.b/c", "x"), ("a", 0, "b.c")]
)
def test_a_place_is_read_as_it_was_written(loc: tuple[str | int, ...]) -> None:
    assert undotted(dotted(loc)) == loc


def test_problems_are_ordered_by_line() -> None:
    problems = [Problem(where=f"h.yaml:{line}", key=str(line), message="m") for line in (10, 9, 100)]
    assert [problem.key for problem in ConfigProblems(problems).problems] == ["9", "10", "100"]
