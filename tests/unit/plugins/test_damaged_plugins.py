"""Distributions that are damaged, half installed or there twice: they are named, and hide no other."""

import pytest

from hamlet_core.api import AdapterError, ConfigError
from hamlet_core.plugins import installed, load
from tests.unit.plugins.conftest import ADAPTER

DAMAGE = "[hamlet]\nthis is no entry point\n"


def test_a_plugin_whose_module_is_missing_is_named(site):
    site.install("hamlet-sample", "sample", None)
    with pytest.raises(AdapterError, match=r"plugin 'sample' of hamlet-sample 1.0 cannot be imported"):
        load({"sample"})


def test_a_plugin_without_metadata_is_named_by_its_folder(site):
    site.install("hamlet-sample", "sample", None, metadata=False)
    (info,) = installed()
    assert info.distribution == "hamlet_sample"
    assert "cannot be imported" in info.problem


def test_one_distribution_twice_on_the_path_is_one_however_it_is_written(site):
    site.install("Acme.Shelf_x", "shelf", ADAPTER.format(kind="shelf"))
    site.install("acme-shelf-x", "shelf", None, version="0.9")
    assert set(load({"shelf"}).adapters) == {"shelf"}
    assert len(installed()) == 1


def test_damaged_entry_points_hide_no_other_plugin(site):
    site.install("hamlet-broken", "broken", "", entry_points=DAMAGE)
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    site.install("sample", "x", "", entry_points=DAMAGE)
    assert set(load({"sample"}).adapters) == {"sample"}
    problems = {info.distribution: info.problem for info in installed()}
    assert "cannot be read" in problems["hamlet-broken"]
    assert "cannot be read" in problems["sample"]
    assert problems["hamlet-sample"] == ""


def test_a_plugin_that_is_half_installed_is_not_called_missing_alone(site):
    site.install("hamlet-etcd", "etcd", "", entry_points=DAMAGE)
    with pytest.raises(ConfigError, match="registry kind 'etcd' is not installed; installed: none; ") as refused:
        load({"etcd"})
    assert "the entry points of hamlet-etcd 1.0 cannot be read: " in str(refused.value)
    assert refused.value.mend == "if it is of hamlet-etcd: pip install --force-reinstall hamlet-etcd"


def test_what_cannot_be_read_may_be_another(site):
    site.install("hamlet-etcd", "etcd", "", entry_points=DAMAGE)
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    damaged = "if it is of hamlet-etcd: pip install --force-reinstall hamlet-etcd"
    with pytest.raises(ConfigError) as refused:
        load({"smaple"})
    assert refused.value.mend == f"write 'sample'; or {damaged}"
    with pytest.raises(ConfigError) as refused:
        load({"consul"})
    install = "install the distribution that provides it, by convention `pip install hamlet-consul`"
    assert refused.value.mend == f"{damaged}; or {install}"
