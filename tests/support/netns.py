"""Network namespaces of a test's own, so that addresses are real and one mesh reaches another only where it should.

A namespace has no name and no file: an open descriptor of this process holds it. So two runs never meet, and
nothing is left behind, not even by a process that is killed: the kernel takes a namespace away, with its links,
when nobody holds it and nothing runs in it. What a thread opens or starts while it has entered a namespace is
in that namespace.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

CLONE_NEWNET = 0x40000000
"""setns(2) and unshare(2): a network namespace."""
IN_A_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
"""What goes before a command so that it may make network namespaces, without being root outside."""
_libc = ctypes.CDLL(None, use_errno=True)


class CannotIsolate(Exception):
    """No network namespace can be made here; the message says why."""


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mine() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """One network namespace, with its loopback up; `label` is for messages. Close it, or use it in a `with`.

    Raises `CannotIsolate` where the kernel lets us make none.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        home = _mine()
        try:
            _call("unshare", CLONE_NEWNET)
            try:
                self._descriptor = _mine()
            finally:
                _call("setns", home, CLONE_NEWNET)
        except OSError as error:
            message = f"this process may make no network namespace ({error.strerror}): it takes root's CAP_SYS_ADMIN"
            raise CannotIsolate(message) from error
        finally:
            os.close(home)
        self.ip("link", "set", "lo", "up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread in the namespace: sockets it opens, processes and threads it starts are in there."""
        home = _mine()
        try:
            _call("setns", self._descriptor, CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)

    @property
    def path(self) -> str:
        """By which other programs name it, as long as it is open."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def ip(self, *arguments: str) -> None:
        """Run `ip` of iproute2 in it."""
        with self.entered():
            _ip(arguments, self.label)

    def join(self, other: Namespace, link: str, address: str, other_address: str) -> None:
        """Lay a cable to `other`: a link of this name at both ends, each with an address and a way to the other's."""
        with self.entered():
            _ip(("link", "add", link, "type", "veth", "peer", "name", link, "netns", other.path), self.label)
        for end, near, far in ((self, address, other_address), (other, other_address, address)):
            end.ip("address", "add", near, "peer", far, "dev", link)
            end.ip("link", "set", link, "up")

    def close(self) -> None:
        """Let go of it; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ip(arguments: Sequence[str], label: str) -> None:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        message = "the program ip (of iproute2) is not on this machine"
        raise CannotIsolate(message) from error
    if done.returncode:
        message = f"ip {' '.join(arguments)} in {label}: {done.stderr.strip()}"
        raise CannotIsolate(message)


def hindrance() -> str:
    """Why this process can make no network namespaces with a link between them; empty where it can."""
    with ExitStack() as stack:
        try:
            one, other = (stack.enter_context(Namespace(label)) for label in ("one", "other"))
            one.join(other, "probe", "192.0.2.1", "192.0.2.2")
        except CannotIsolate as error:
            return str(error)
    return ""


def user_namespaces() -> bool:
    """Whether a process that is started with `IN_A_USER_NAMESPACE` before it may make them."""
    if shutil.which(IN_A_USER_NAMESPACE[0]) is None:
        return False
    done = subprocess.run([*IN_A_USER_NAMESPACE, "true"], capture_output=True, check=False, timeout=30)
    return done.returncode == 0
