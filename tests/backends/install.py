"""Find or fetch the real backends, and their tools, that adapters and pages are tested against. Starts none of them.

    python tests/backends/install.py [NAME|all] ...    (the names are those of `RECIPES`)

A binary is taken from the folder `$HAMLET_BACKENDS`, then from `$KUBEBUILDER_ASSETS` (where the tests of other
Kubernetes projects look for theirs), then from `$PATH`, then from a cache folder
(`$XDG_CACHE_HOME/hamlet/backends`, by default `~/.cache/hamlet/backends`), which is filled once from Debian's
packages: with package lists of its own and without installing anything, so that the machine stays as it is.
The mirror is the machine's own, as its apt is configured, or `$HAMLET_DEBIAN_MIRROR`.

kube-apiserver is in no package: it is built from Debian's source package, which takes some minutes of processor
time and two gigabytes beside the cache, given back at the end. So is a Consul that checks the names that later ones
check, in two minutes. Nothing but those packages is fetched.

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
        _download(work, self.suite, (self.package,))
        return work / "unpacked" / self.member


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltApiserver:
    """kube-apiserver, built from Debian's source package with Debian's Go of the same suite."""

    suite: str
    go: str
    version: str

    def __call__(self, work: Path) -> Path:
        """Fetch sources and compiler into `work`, build there, return the binary."""
        for tool in ("apt-get", "dpkg-deb", "dpkg-source"):
            if shutil.which(tool) is None:
                message = f"{tool} (of dpkg-dev) is not on this machine, and kube-apiserver is built with it"
                raise CannotInstall(message)
        reflect2 = "golang-github-modern-go-reflect2-dev"
        compiler = (f"golang-{self.go}-go", f"golang-{self.go}-src")
        _download(work, self.suite, (*compiler, reflect2), source="kubernetes")
        (description,) = work.glob("kubernetes_*.dsc")
        tree = work / "gopath/src/k8s.io/kubernetes"
        tree.parent.mkdir(parents=True)
        _run(["dpkg-source", "--no-check", "-x", str(description), str(tree)], cwd=work)
        # The vendored reflect2 is too old for this Go: with it the server dies at its first custom resource.
        vendored = tree / "vendor/github.com/modern-go/reflect2"
        for stale in (*vendored.glob("*.go"), *vendored.glob("*.s")):
            stale.unlink()
        packaged = work / "unpacked/usr/share/gocode/src/github.com/modern-go/reflect2"
        for file in (*packaged.glob("*.go"), *packaged.glob("*.s")):
            shutil.copy(file, vendored)
        self._generate_openapi(work, tree)
        numbers = {"gitVersion": f"v{self.version}"}
        numbers["gitMajor"], numbers["gitMinor"], _ = self.version.split(".")
        stamps = [
            f"-X k8s.io/kubernetes/vendor/k8s.io/{package}/version.{key}={value}"
            for package in ("client-go/pkg", "component-base")
            for key, value in numbers.items()
        ]
        made = work / "kube-apiserver"
        flags = ["-trimpath", "-tags", "providerless", "-ldflags", " ".join(["-s", "-w", *stamps])]
        _go(work, tree, self.go, "build", *flags, "-o", str(made), "./cmd/kube-apiserver")
        return made

    def _generate_openapi(self, work: Path, tree: Path) -> None:
        """Make the one generated file that the source package leaves out: the definitions of all types."""
        generator = work / "openapi-gen"
        _go(work, tree, self.go, "build", "-o", str(generator), "./vendor/k8s.io/kube-openapi/cmd/openapi-gen")
        skipped = {"code-generator", "sample-apiserver", "kube-openapi", "gengo"}
        staged = [one for one in (tree / "vendor/k8s.io").iterdir() if one.name not in skipped]
        wanted = {
            file.parent.relative_to(tree)
            for folder in (tree / "pkg", *staged)
            for file in folder.rglob("*.go")
            if not file.name.endswith("_test.go") and b"+k8s:openapi-gen=" in file.read_bytes()
        }
        packages = ",".join(sorted(f"k8s.io/kubernetes/{folder}" for folder in wanted))
        header = "hack/boilerplate/boilerplate.generatego.txt"
        target = ["-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"]
        arguments = ["--logtostderr", "-h", header, "-i", packages, *target, "-r", str(work / "violations")]
        _run([str(generator), *arguments], cwd=tree, environ=_go_environ(work, self.go), seconds=BUILD_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltConsul:
    """Consul, built from Debian's source package with one rule of later releases (its change 12672).

    The SNI of a terminating gateway's link is the name that the other end's certificate has to present. It goes by
    the version of the package all the same.
    """

    suite: str
    go: str

    def __call__(self, work: Path) -> Path:
        """Fetch sources, libraries and compiler into `work`, build there, return the binary."""
        for tool in ("apt-get", "dpkg-deb", "dpkg-source"):
            if shutil.which(tool) is None:
                message = f"{tool} (of dpkg-dev) is not on this machine, and this Consul is built with it"
                raise CannotInstall(message)
        _download(work, self.suite, self._libraries(work), source="consul")
        (description,) = work.glob("consul_*.dsc")
        tree = work / "gopath/src/github.com/hashicorp/consul"
        tree.parent.mkdir(parents=True)
        _run(["dpkg-source", "--no-check", "-x", str(description), str(tree)], cwd=work)
        clusters = tree / "agent/xds/clusters.go"
        clusters.write_text(_checking_names(clusters.read_text()))
        made = work / "consul-checking-names"
        libraries = work / "unpacked/usr/share/gocode"
        _go(work, tree, self.go, "build", "-trimpath", "-o", str(made), ".", libraries=(libraries,))
        return made

    def _libraries(self, work: Path) -> tuple[str, ...]:
        """The packages of Go, and of what Consul is made of."""
        nothing = work / "status"
        nothing.write_text("")  # as on a machine without any package: what this one has is not in `work`
        plain = ("-o", f"Dir::State::status={nothing}", "-o", "APT::Install-Recommends=false")
        reasons = []
        for mirror in mirrors():
            apt = [*_private_apt(work, mirror, self.suite), *plain]
            try:
                _run([*apt, "update"], cwd=work)
                listed = _run([*apt, "--print-uris", "build-dep", "consul"], cwd=work)
            except subprocess.SubprocessError as error:
                reasons.append(f"{mirror}: {_said(error)}")
            else:
                return tuple(re.findall(r"^'[^']+' (golang[^_]*)_", listed, flags=re.MULTILINE))
        message = f"no mirror says what Consul is built with: {'; '.join(reasons) or 'apt has no mirror configured'}"
        raise CannotInstall(message)


def _checking_names(clusters: str) -> str:
    """Consul's source of a proxy's clusters, with the rule added. Raises `CannotInstall` for another version's."""
    auth = '\tenvoyauth "github.com/envoyproxy/go-control-plane/envoy/api/v2/auth"\n'
    matcher = '\tenvoymatcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher"\n'
    context = "\t\t\tSni: mapping.SNI,\n\t\t}\n"
    exact = "&envoymatcher.StringMatcher{MatchPattern: &envoymatcher.StringMatcher_Exact{Exact: mapping.SNI}}"
    rule = f"""\
\t\tif mapping.SNI != "" {{
\t\t\tchecked := cluster.TlsContext.CommonTlsContext.GetValidationContext()
\t\t\tchecked.MatchSubjectAltNames = []*envoymatcher.StringMatcher{{{exact}}}
\t\t}}
"""
    if clusters.count(auth) != 1 or clusters.count(context) != 1:
        message = "the sources of Consul are others than those that the rule was written for"
        raise CannotInstall(message)
    return clusters.replace(auth, auth + matcher).replace(context, context + rule)


def _go(work: Path, tree: Path, version: str, *arguments: str, libraries: Sequence[Path] = ()) -> None:
    environ = _go_environ(work, version, libraries)
    go = str(work / f"unpacked/usr/lib/go-{version}/bin/go")
    _run(["nice", "-n", "10", go, *arguments], cwd=tree, environ=environ, seconds=BUILD_SECONDS)


def _go_environ(work: Path, version: str, libraries: Sequence[Path] = ()) -> Mapping[str, str]:
    """Everything Go reads and writes is in `work`, and it asks no network for anything."""
    root = work / f"unpacked/usr/lib/go-{version}"
    path = os.pathsep.join(map(str, (work / "gopath", *libraries)))
    own = {"GOROOT": root, "GOPATH": path, "GOCACHE": work / "gocache", "HOME": work, "TMPDIR": work}
    fixed = {"GO111MODULE": "off", "GOFLAGS": "", "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    search = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**fixed, **{key: str(value) for key, value in own.items()}, "PATH": search}


BUILD_SECONDS = 3600.0
"""The longest time for one step of a build, on a machine that has other work too."""


RECIPES: Mapping[str, Callable[[Path], Path]] = {
    "consul": Packaged(suite="bullseye", package="consul", member="usr/bin/consul"),
    "etcd": Packaged(suite="bookworm", package="etcd-server", member="usr/bin/etcd"),
    "kubectl": Packaged(suite="bookworm", package="kubernetes-client", member="usr/bin/kubectl"),
    "kube-apiserver": BuiltApiserver(suite="bookworm", go="1.19", version="1.20.2"),
    "etcdctl": Packaged(suite="bookworm", package="etcd-client", member="usr/bin/etcdctl"),
    "promtool": Packaged(suite="bookworm", package="prometheus", member="usr/bin/promtool"),
    "consul-checking-names": BuiltConsul(suite="bullseye", go="1.15"),
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
    """The binary `name` of $HAMLET_BACKENDS, $KUBEBUILDER_ASSETS or $PATH, or None."""
    for search in map(environ.get, ("HAMLET_BACKENDS", "KUBEBUILDER_ASSETS", "PATH")):
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


def _download(work: Path, suite: str, packages: Sequence[str], *, source: str = "") -> None:
    """Unpack `packages` into `work`/unpacked; put the files of the source package `source` into `work`."""
    reasons = []
    for mirror in mirrors():
        apt = _private_apt(work, mirror, suite)
        try:
            _run([*apt, "update"], cwd=work)
            _run([*apt, "download", *packages], cwd=work)
            if source:
                _run([*apt, "source", "--download-only", source], cwd=work)
            for deb in work.glob("*.deb"):
                _run(["dpkg-deb", "-x", str(deb), str(work / "unpacked")], cwd=work)
        except subprocess.SubprocessError as error:
            reasons.append(f"{mirror}: {_said(error)}")
        else:
            return
    wanted = ", ".join((*packages, source) if source else packages)
    message = f"no mirror gave {wanted} of {suite}: {'; '.join(reasons) or 'apt has no mirror configured'}"
    raise CannotInstall(message)


def _private_apt(work: Path, mirror: str, suite: str) -> list[str]:
    """An apt-get that sees one suite of one mirror, and keeps everything it writes in `work`."""
    sources, lists = work / f"{suite}.sources", work / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    sources.write_text(
        f"Types: deb deb-src\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"
    )
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


def _run(
    command: Sequence[str], *, cwd: Path, environ: Mapping[str, str] | None = None, seconds: float = 600.0
) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        env=environ,
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
