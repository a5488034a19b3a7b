"""Find or fetch the real backends that the adapters are tested against. Starts none of them.

    python tests/backends/install.py [consul|etcd|all] ...

A binary is taken from the folder `$HAMLET_BACKENDS`, then from `$PATH`, then from a cache folder
(`$XDG_CACHE_HOME/hamlet/backends`, by default `~/.cache/hamlet/backends`), which is filled once from Debian's
packages: with package lists of its own and without installing anything, so that the machine stays as it is.
The mirror is the machine's own, as its apt is configured, or `$HAMLET_DEBIAN_MIRROR`.

Only the standard library is used, so that a bare interpreter can run it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class CannotInstall(Exception):
    """The backend is not on this machine and cannot be fetched; the message says what was missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A binary that one Debian package carries: its suite, its name, the path of the binary within it."""

    suite: str
    package: str
    member: str

    def __call__(self, work: Path) -> Path:
        """Fetch the package into `work` and return the unpacked binary in it."""
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                message = f"{tool} is not on this machine, and the package {self.package} comes by it"
                raise CannotInstall(message)
        reasons = []
        for mirror in mirrors():
            try:
                return self._from(mirror, work)
            except subprocess.SubprocessError as error:
                reasons.append(f"{mirror}: {_said(error)}")
        message = (
            f"no mirror gave {self.package} of {self.suite}: {'; '.join(reasons) or 'apt has no mirror configured'}"
        )
        raise CannotInstall(message)

    def _from(self, mirror: str, work: Path) -> Path:
        apt = _private_apt(work, mirror, self.suite)
        _run([*apt, "update"], cwd=work)
        _run([*apt, "download", self.package], cwd=work)
        (deb,) = work.glob(f"{self.package}_*.deb")
        _run(["dpkg-deb", "-x", str(deb), str(work / "unpacked")], cwd=work)
        return work / "unpacked" / self.member


RECIPES: Mapping[str, Callable[[Path], Path]] = {
    "consul": Packaged(suite="bullseye", package="consul", member="usr/bin/consul"),
    "etcd": Packaged(suite="bookworm", package="etcd-server", member="usr/bin/etcd"),
}
"""How each backend is had when the machine has none: given an empty folder, return the binary made in it."""


def mirrors(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The Debian mirrors to ask, best first; needs no network and no package list."""
    if environ.get("HAMLET_DEBIAN_MIRROR"):
        return (environ["HAMLET_DEBIAN_MIRROR"],)
    listed = _run(["apt-get", "--print-uris", "update"], cwd=Path("/"))
    found = re.findall(r"^'([^']+?)/?/dists/", listed, flags=re.MULTILINE)
    # A security or updates archive holds few packages: ask those last.
    return tuple(sorted(dict.fromkeys(found), key=lambda uri: "security" in uri))


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where fetched binaries are kept; `CannotInstall` where neither XDG_CACHE_HOME nor HOME is set."""
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "hamlet" / "backends"
    if environ.get("HOME"):
        return Path(environ["HOME"]) / ".cache" / "hamlet" / "backends"
    message = "there is no folder to keep it in: set XDG_CACHE_HOME or HOME, or point HAMLET_BACKENDS at the binaries"
    raise CannotInstall(message)


def find(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The binary `name` of $HAMLET_BACKENDS or $PATH, or None."""
    for search in (environ.get("HAMLET_BACKENDS"), environ.get("PATH")):
        found = shutil.which(name, path=search) if search else None
        if found is not None:
            return Path(found)
    return None


def ensure(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the backend `name`, fetching it when need be; `CannotInstall` says why it cannot be had.

    Safe to call from several processes at once: one fetches, the others wait for it.
    """
    found = find(name, environ)
    if found is not None:
        return found
    cache = cache_folder(environ)
    binary = cache / "bin" / name
    if not binary.exists():
        try:
            binary.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"the cache folder {cache} cannot be made ({error}): set XDG_CACHE_HOME to a writable folder"
            raise CannotInstall(message) from error
        with _locked(cache / f"{name}.lock"):
            if not binary.exists():
                _fetch(name, cache, binary)
    return binary


def _fetch(name: str, cache: Path, binary: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix=f"{name}-") as folder:
        try:
            made = RECIPES[name](Path(folder))
            made.chmod(0o755)
            made.replace(binary)
        except (OSError, subprocess.SubprocessError) as error:
            message = f"{name} could not be fetched: {_said(error)}"
            raise CannotInstall(message) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _private_apt(work: Path, mirror: str, suite: str) -> list[str]:
    """An apt-get that sees one suite of one mirror, and keeps everything it writes in `work`."""
    sources, lists = work / f"{suite}.sources", work / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    sources.write_text(f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n")
    options = {
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": str(lists),
        "Dir::Cache": str(work / "cache"),
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "",  # the folder is private to us: its sandbox user could not write in it
        "APT::Update::Error-Mode": "any",
        "APT::Update::Post-Invoke-Success::": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Acquire::http::Timeout": "20",
    }
    return ["apt-get", "-qq", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]


def _run(command: Sequence[str], *, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, check=True, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    return done.stdout


def _said(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return " ".join(error.stderr.split())[-400:] or str(error)
    return str(error)


def main(names: Sequence[str]) -> int:
    """Install what is asked for, print one line each; 1 when something could not be had, 2 for a name unknown."""
    wanted = tuple(RECIPES) if not names or "all" in names else tuple(names)
    unknown = [name for name in wanted if name not in RECIPES]
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(unknown)}; there are {', '.join(RECIPES)} and all\n")
        return 2
    failed = 0
    for name in wanted:
        try:
            sys.stdout.write(f"{name}: {ensure(name)}\n")
        except CannotInstall as error:
            failed = 1
            sys.stderr.write(f"{name}: NOT INSTALLED: {error}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
