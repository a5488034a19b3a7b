"""Run a program that ends with the process that started it: `python -m hamlet_envoy.launch PARENT PROGRAM ...`.

A small program of its own, since the kernel's request for it is made between fork and exec, where a process
with threads may do next to nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the calling process gets when the thread that started it ends."""


def main() -> None:
    """Become the program, which may open as many files as an administrator lets it: each listener is one."""
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before it could be asked for
        sys.exit(1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
