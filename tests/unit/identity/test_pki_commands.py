import json

import pytest
from click.testing import CliRunner

from hamlet_core.cli import main


@pytest.fixture
def hamlet():
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_two_commands_make_a_usable_identity_and_say_what_to_hand_over(hamlet, tmp_path):
    made = hamlet("pki", "init", tmp_path, "--trust-domain", "west.example")
    assert made.exit_code == 0, made.output
    assert f"{tmp_path}/bundle.pem" in made.output
    assert "operator of every peer" in made.output
    issued = hamlet("pki", "issue", tmp_path)
    assert issued.exit_code == 0, issued.output
    assert "spiffe://west.example/hamlet/agent" in issued.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "agent.crt", "agent.key", "bundle.pem", "ca.crt", "ca.key",
    ]  # fmt: skip


def test_json_names_every_file_and_no_secret(hamlet, tmp_path):
    made = json.loads(hamlet("pki", "init", tmp_path, "--trust-domain", "west.example", "--json").stdout)
    assert made["bundle"] == str(tmp_path / "bundle.pem")
    output = hamlet("pki", "issue", tmp_path, "--name", "edge", "--dns", "gw.west.example", "--json").stdout
    issued = json.loads(output)
    assert issued["spiffe_id"] == "spiffe://west.example/hamlet/edge"
    assert issued["dns_names"] == ["gw.west.example"]
    assert issued["key"] == str(tmp_path / "edge.key")
    assert "PRIVATE" not in output


def test_an_existing_authority_is_an_error_with_its_mend(hamlet, tmp_path):
    hamlet("pki", "init", tmp_path, "--trust-domain", "west.example")
    again = hamlet("pki", "init", tmp_path, "--trust-domain", "west.example")
    assert again.exit_code == 1
    assert "not overwritten" in again.stderr
    assert "choose another folder" in again.stderr


@pytest.mark.parametrize("command", [[], ["init"], ["issue"]])
def test_help_shows_commands_to_type(hamlet, command):
    shown = hamlet("pki", *command, "--help")
    assert shown.exit_code == 0
    assert "\n  hamlet pki" in shown.output or "\n    hamlet pki" in shown.output
