"""The ways to install of the pages, typed: from a checkout, by name, as a service, as an author of an adapter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.backends.not_run import leave_out
from tests.docs.blocks import ROOT, blocks
from tests.docs.typing_blocks import BINARIES, OTHERS, link_what_others_made, succeeds, surroundings, typed

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("installing")]


def test_from_a_checkout_there_is_hamlet_with_the_plugins_that_were_named(
    machine: dict[str, str], tmp_path: Path
) -> None:
    (commands,) = typed("README.md", "Install")
    checkout = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns(".*", "build", "__pycache__", "tests", "docs", "bench")
    shutil.copytree(ROOT, checkout, ignore=unwanted)
    for other in re.findall(r"\./(plugins/\w+)", commands):
        assert (checkout / other / "pyproject.toml").exists(), other
    # Without an index there is nothing to make an isolated environment of; "0" is how pip's variable says so.
    said = succeeds(
        f"{commands}\nhamlet --version\nhamlet plugins --json", checkout, {**machine, "PIP_NO_BUILD_ISOLATION": "0"}
    )
    (installed,) = json.loads(said[said.rindex("\n[") :])
    assert (installed["name"], installed["problem"]) == ("file", None)


@pytest.mark.parametrize(
    ("page", "heading", "expected"),
    [
        ("plugins/envoy/README.md", "Quick start", {"envoy": (None, ["gateway"])}),
        ("examples/hamlet-audit/README.md", "Use", {"audit": (None, ["wrappers"])}),
        (
            "docs/tutorial-consul-istio.md",
            "What each needs",
            {"consul": (None, ["registry", "gateway", "coordinator"]), "envoy": (None, ["gateway"])},
        ),
    ],
)
def test_what_is_installed_by_its_name_is_listed(
    page: str,
    heading: str,
    expected: dict[str, tuple[None, list[str]]],
    machine: dict[str, str],
    tmp_path: Path,
) -> None:
    (commands,) = typed(page, heading)
    activated = f"python3 -m venv there && . there/bin/activate\n{commands}"
    said = succeeds(f'{activated}\nhamlet plugins --json\necho "trail: $HAMLET_AUDIT_FILE"', tmp_path, machine)
    listed = json.loads(re.findall(r"^\[\n.*?^\]$", said, re.MULTILINE | re.DOTALL)[-1])
    assert {each["name"]: (each["problem"], each["provides"]) for each in listed} == expected
    if "audit" in expected:
        assert "trail: /var/lib/hamlet/" in said, "where the unit of docs/operations.md may write"


# --- as a service ------------------------------------------------------------------------------------------

ROOTS = ("unshare", "--mount", "--propagation", "private")
"""What goes before a command to have mounts of its own, as root."""
NOBODYS = ("unshare", "--user", "--map-auto", "--map-root-user", "--mount", "--propagation", "private")
"""The same for other users: they are root in there, with further users of their own to give things to."""
MACHINE = """\
# A machine of our own: what root changes is changed in here alone, and gone with the last process.
mount -t tmpfs tmpfs "$STAGE"
mkdir -p "$STAGE"/etc "$STAGE"/opt/python "$STAGE"/opt/packages
cp -a /etc/. "$STAGE"/etc 2>/dev/null || true    # what this user may read of it
touch "$STAGE"/etc/shadow "$STAGE"/etc/gshadow
cp -a "$OTHERS" "$STAGE"/opt/others
cp -a "$WHEELS" "$STAGE"/opt/wheels
# A Python, and packages, where every user of the machine may read them.
mount --rbind "$PREFIX" "$STAGE"/opt/python
mount --rbind "$PACKAGES" "$STAGE"/opt/packages
cp "$UNIT" "$STAGE"/etc/hamlet.service
chmod -R go+rX "$STAGE"/opt/others "$STAGE"/opt/wheels
mount --rbind "$STAGE"/etc /etc
mount --rbind "$STAGE"/opt /opt
for folder in /var/lib /var/log /run; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
export PATH=/opt/python/bin:$PATH PYTHONPATH=/opt/others PIP_FIND_LINKS=/opt/wheels
cd /
{commands}
"""
AFTERWARDS = """\
echo "user: $(getent passwd hamlet)"
echo "folder: $(stat -c '%U %G %a' /etc/hamlet)"
/opt/hamlet/bin/hamlet plugins --json
# What systemd makes for StateDirectory= and RuntimeDirectory=, and certificates.
install -d -o hamlet -g hamlet -m 0700 /var/lib/hamlet /run/hamlet
/opt/hamlet/bin/hamlet pki init /var/lib/hamlet/pki --trust-domain west.example
/opt/hamlet/bin/hamlet pki issue /var/lib/hamlet/pki
chown -R hamlet:hamlet /var/lib/hamlet
install -m 0640 -o root -g hamlet /dev/stdin /etc/hamlet/hamlet.yaml <<'END'
mesh: {name: west, domain: west.example, trust_domain: west.example}
identity: {certificate: /var/lib/hamlet/pki/agent.crt, key: /var/lib/hamlet/pki/agent.key}
registries: {main: {kind: consul}}
admin: {socket: /run/hamlet/hamlet.sock}
END
mkdir -p /etc/systemd/system && mv /etc/hamlet.service /etc/systemd/system/
LD_LIBRARY_PATH=/opt/python/lib setpriv --reuid=hamlet --regid=hamlet --init-groups sh -c "exec $(
  sed -n 's/^ExecStartPre=//p' /etc/systemd/system/hamlet.service)"
if command -v systemd-analyze > /dev/null; then
  echo "systemd: $(systemd-analyze verify /etc/systemd/system/hamlet.service 2>&1)"
fi
"""


def isolation() -> tuple[str, ...]:
    """What goes before a command so that it may mount; without it the test is not run."""
    if shutil.which("unshare") is None:
        leave_out("unshare (of util-linux) is needed and is not on this machine")
    for prefix in (ROOTS, NOBODYS):
        if subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=30).returncode == 0:
            return prefix
    return leave_out("a mount namespace is needed and cannot be had: by root, or with user namespaces and newuidmap")


def test_as_a_service_its_user_can_check_the_configuration_as_the_unit_does(
    machine: dict[str, str], wheels: Path, tmp_path: Path
) -> None:
    page = "docs/operations.md"
    (commands,) = typed(page, "Install as a service")
    (unit,) = (each.text for each in blocks(ROOT / page) if each.language == "ini")
    others, stage = tmp_path / "others", tmp_path / "stage"
    others.mkdir()
    stage.mkdir()
    (tmp_path / "unit").write_text(unit)
    link_what_others_made(others, *OTHERS, at=Path("/opt/packages"))
    known = {
        "STAGE": str(stage),
        "OTHERS": str(others),
        "WHEELS": str(wheels),
        "PREFIX": sys.base_prefix,
        "PACKAGES": str(Path(click.__file__).parents[1]),
        "UNIT": str(tmp_path / "unit"),
    }
    before = Path("/etc/passwd").read_bytes()
    script = MACHINE.replace("{commands}", commands + AFTERWARDS)
    done = subprocess.run(
        [*isolation(), "bash", "--norc", "-eo", "pipefail", "-c", script], env={**machine, **known}, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False,
    )  # fmt: skip
    said = done.stdout
    assert done.returncode == 0, said
    assert re.search(r"^user: hamlet:x:\d+:\d+::/var/lib/hamlet:/usr/sbin/nologin$", said, re.MULTILINE), said
    assert re.search(r"^folder: root hamlet 750$", said, re.MULTILINE), said
    assert '"name": "consul"' in said
    assert "hamlet.service" not in said.partition("systemd: ")[2], "systemd finds fault with the unit"
    assert Path("/etc/passwd").read_bytes() == before
    assert not (stage / "etc").exists(), "what was mounted is seen outside"


# --- as an author ------------------------------------------------------------------------------------------


def test_the_scaffold_is_installed_and_tested_as_the_pages_say(wheels: Path, tmp_path: Path) -> None:
    (commands,) = typed("docs/cli.md", "hamlet new-adapter")
    _, of_the_tutorial = typed("docs/writing-an-adapter.md", "1. The scaffold")
    lines = commands.splitlines(keepends=True)
    assert lines[:2] == ["hamlet new-adapter etcd\n", "cd hamlet-etcd\n"]
    assert of_the_tutorial == "".join(lines[2:]) + ".venv/bin/hamlet plugins\n", "the two pages type the same"
    # As the command says where the core is not on an index: it comes first, from its own place.
    (core,) = wheels.glob("hamlet_core-*.whl")
    before = f"python -m venv .venv && .venv/bin/pip install --quiet '{core}[testing]'\n"
    environ = surroundings(BINARIES)
    said = succeeds("".join([*lines[:2], before, of_the_tutorial]), tmp_path, environ)
    assert re.search(r"^=* ?\d+ passed in ", said, re.MULTILINE), said[-3000:]
    assert re.search(r"^etcd +hamlet-etcd +0\.1\.0 +registry ", said, re.MULTILINE), said[-3000:]
