"""A machine with an agent as its service, for pages that an operator types there as root. No tests.

The paths of the page lead into a folder; `sudo` and `systemctl` are ours, and do what the page asks of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.docs.typing_blocks import Done, bash, succeeds, surroundings
from tests.support.meshes import Mesh
from tests.support.processes import wait_until

PROGRAMS = {
    "sudo": """\
#!/bin/sh
[ "$1 $2" = "-u hamlet" ] && shift 2 && exec "$@"
""",
    # As the unit of the page has it; whoever has ended may stay in the table of processes until somebody looks.
    "systemctl": """\
#!/bin/sh
[ "$2" = hamlet ] || exit 1
stop() {
  pid=$(cat "$STAGE/pid")
  kill "$pid"
  while grep -qs '^State:.[^ZX]' "/proc/$pid/status"; do sleep 0.05; done
}
start() {
  setsid "$STAGE/opt/hamlet/bin/hamlet" run < /dev/null >> "$STAGE/agent.log" 2>&1 &
  echo $! > "$STAGE/pid"
}
case "$1" in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
  reload) kill -HUP "$(cat "$STAGE/pid")" ;;
  *) exit 1 ;;
esac
""",
}


class Service:
    """Mesh `west`, whose hamlet.yaml is that of the machine at `stage`, where `hamlet` is in `opt/hamlet/bin`."""

    def __init__(self, stage: Path, west: Mesh, environ: Mapping[str, str]) -> None:
        self.stage, self.west = stage, west
        programs = stage / "programs"
        for folder in (programs, stage / "opt", stage / "root", stage / "var" / "envoy"):
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in PROGRAMS.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environ = {
            **environ,
            "PATH": f"{programs}{os.pathsep}{environ['PATH']}",
            "STAGE": str(stage),
            "HAMLET_CONFIG": str(west.config_path),
        }

    def here(self, commands: str) -> str:
        """Commands of the page, with the paths of this machine."""
        places = {
            "/opt/hamlet": self.stage / "opt" / "hamlet",
            "/etc/hamlet": self.west.folder,
            "/var/lib/hamlet": self.stage / "var",
            "/root/": f"{self.stage / 'root'}/",
        }
        for place, ours in places.items():
            commands = commands.replace(place, str(ours))
        return commands

    def types(self, commands: str, **more: str) -> str:
        """Type commands that must succeed; what they printed."""
        return succeeds(self.here(commands), self.stage, {**self.environ, **more})

    def types_until_well(self, commands: str) -> str:
        """Type commands until they succeed; what they printed then."""
        done: list[Done] = []

        def well() -> bool:
            done.append(bash(self.here(commands), self.stage, self.environ))
            return done[-1].code == 0

        try:
            wait_until(well, what=commands)
        except AssertionError as late:
            log = (self.stage / "agent.log").read_text(encoding="utf-8")
            message = f"{late}: {done[-1].said}\n{log[-3000:]}"
            raise AssertionError(message) from None
        return done[-1].said


@contextmanager
def service(stage: Path, west: Mesh, environ: Mapping[str, str] | None = None) -> Iterator[Service]:
    """That machine; what was started there is ended."""
    stage.mkdir(exist_ok=True)
    try:
        yield Service(stage, west, environ or surroundings())
    finally:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((stage / "pid").read_text()), signal.SIGKILL)
