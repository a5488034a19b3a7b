"""Where a real backend is looked for, and what is said where none can be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends import install


def put_binary(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / name
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    return binary


def test_the_named_folder_beats_the_path(tmp_path: Path) -> None:
    named = put_binary(tmp_path / "named", "consul")
    put_binary(tmp_path / "path", "consul")
    environ = {"HAMLET_BACKENDS": str(tmp_path / "named"), "PATH": str(tmp_path / "path")}
    assert install.ensure("consul", environ) == named


def test_the_folder_of_other_kubernetes_tests_comes_between(tmp_path: Path) -> None:
    assets = put_binary(tmp_path / "assets", "kube-apiserver")
    put_binary(tmp_path / "path", "kube-apiserver")
    environ = {"KUBEBUILDER_ASSETS": str(tmp_path / "assets"), "PATH": str(tmp_path / "path")}
    assert install.ensure("kube-apiserver", environ) == assets
    named = put_binary(tmp_path / "named", "kube-apiserver")
    assert install.ensure("kube-apiserver", environ | {"HAMLET_BACKENDS": str(tmp_path / "named")}) == named


def test_a_machine_that_cannot_unpack_sources_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        put_binary(tmp_path / "bin", tool)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(install.CannotInstall, match=r"dpkg-source .of dpkg-dev. is not on this machine"):
        install.ensure("kube-apiserver", {"HOME": str(tmp_path)})


def test_the_path_beats_the_cache(tmp_path: Path) -> None:
    on_path = put_binary(tmp_path / "path", "consul")
    put_binary(tmp_path / "cache/hamlet/backends/bin", "consul")
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(tmp_path / "path")}
    assert install.ensure("consul", environ) == on_path


def test_what_is_cached_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = put_binary(tmp_path / ".cache/hamlet/backends/bin", "consul")
    monkeypatch.setitem(install.RECIPES, "consul", None)
    assert install.ensure("consul", {"HOME": str(tmp_path)}) == cached


def test_what_is_fetched_is_kept_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def recipe(work: Path) -> Path:
        fetched.append(work)
        (work / "rubbish").write_text("")
        return put_binary(work, "made")

    monkeypatch.setitem(install.RECIPES, "consul", recipe)
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    first, second = install.ensure("consul", environ), install.ensure("consul", environ)
    assert first == second
    assert len(fetched) == 1
    assert {path.name for path in (tmp_path / "hamlet/backends").iterdir()} == {"bin", "consul.lock"}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "HAMLET_BACKENDS"),
        ({"HOME": ""}, "XDG_CACHE_HOME or HOME"),
        ({"HOME": "/proc/nowhere"}, "cannot be made"),
    ],
)
def test_no_place_to_keep_it_is_said_with_the_mend(environ: dict[str, str], says: str) -> None:
    with pytest.raises(install.CannotInstall, match=says):
        install.ensure("consul", environ)


def test_a_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.CannotInstall, match="apt-get is not on this machine"):
        install.ensure("consul", {"HOME": str(tmp_path)})


def test_a_mirror_that_has_nothing_is_named_in_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = tmp_path / "mirror"
    nothing.mkdir()
    monkeypatch.setenv("HAMLET_DEBIAN_MIRROR", nothing.as_uri())
    with pytest.raises(install.CannotInstall, match=f"no mirror gave consul of bullseye: {nothing.as_uri()}"):
        install.ensure("consul", {"HOME": str(tmp_path)})


def test_an_unknown_backend_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(["consull"]) == 2
    assert "there are consul, etcd, kubectl, kube-apiserver" in capsys.readouterr().err


def test_the_rule_that_consul_is_built_with_is_for_the_sources_that_it_was_written_for() -> None:
    auth = '\tenvoyauth "github.com/envoyproxy/go-control-plane/envoy/api/v2/auth"\n'
    sources = f"import (\n{auth})\n\t\tx{{\n\t\t\tSni: mapping.SNI,\n\t\t}}\n\t}}\n"
    assert "MatchSubjectAltNames" in install._checking_names(sources)
    for other in (sources.replace("SNI", "Name"), sources.replace("v2", "v3")):
        with pytest.raises(install.CannotInstall, match="others than those"):
            install._checking_names(other)
