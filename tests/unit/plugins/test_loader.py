"""Plugins are found by entry point, loaded only when they are named, and refused with a sentence."""

import sys

import pytest

from hamlet_core.api import AdapterError, ConfigError, HamletError, Wrapped
from hamlet_core.plugins import installed, load, loader
from tests.unit.plugins.conftest import ADAPTER

WRAPPER = """
    from hamlet_core.api import hookimpl

    class Audit:
        pass

    @hookimpl
    def hamlet_wrappers(adapter):
        return Audit() if adapter.kind == "sample" else None
"""
WRAPPED = Wrapped(name="west", kind="sample", role="registry")


def test_a_named_adapter_is_loaded(site):
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    plugins = load({"sample"})
    assert set(plugins.adapters) == {"sample"}
    assert plugins.adapters["sample"].summary == "a sample"


def test_only_what_is_named_is_imported(site):
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    site.install("hamlet-other", "other", "raise SystemExit('imported')")
    assert set(load({"sample"}).adapters) == {"sample"}
    assert "other" not in sys.modules


def test_a_wrapper_plugin_is_asked_about_each_adapter(site):
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    site.install("hamlet-audit", "audit", WRAPPER)
    plugins = load({"sample"}, ["audit"])
    assert [type(wrapper).__name__ for wrapper in plugins.wrappers(WRAPPED).values()] == ["Audit"]
    assert list(plugins.wrappers(WRAPPED)) == ["audit"]
    assert plugins.wrappers(Wrapped(name="west", kind="file", role="registry")) == {}


def test_a_wrapper_plugin_that_fails_is_named(site):
    site.install("hamlet-audit", "audit", WRAPPER.replace("Audit() if", "1 / 0 if"))
    with pytest.raises(AdapterError, match=r"plugin 'audit' failed to say what wraps registry 'west': ZeroDivision"):
        load((), ["audit"]).wrappers(WRAPPED)


def test_a_wrapper_plugin_that_exits_ends_nobody(site):
    site.install("hamlet-audit", "audit", WRAPPER.replace("return Audit() if", "raise SystemExit(3) if"))
    with pytest.raises(AdapterError, match=r"failed to say what wraps registry 'west': SystemExit: 3"):
        load((), ["audit"]).wrappers(WRAPPED)


def test_what_a_plugin_refuses_on_purpose_keeps_its_sentence_and_its_mend(site):
    refusal = 'raise ConfigError("no library for it", mend="install libfoo")'
    source = "\n    from hamlet_core.api import ConfigError" + ADAPTER.replace(
        "return [", f"{refusal}\n        return ["
    )
    site.install("hamlet-sample", "sample", source.format(kind="sample"))
    with pytest.raises(AdapterError) as refused:
        load({"sample"})
    assert str(refused.value) == (
        "plugin 'sample' of hamlet-sample 1.0 failed to say which adapters it provides: no library for it"
    )
    assert refused.value.mend == "install libfoo"


def test_commands_of_a_plugin_are_listed(site):
    site.install(
        "hamlet-extra",
        "extra",
        """
        import click
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_commands():
            return [click.Command("extra")]
        """,
    )
    (info,) = installed()
    assert info.provides == ("commands",)
    assert [command.name for command in info.commands] == ["extra"]


BROKEN = {
    "its import fails": (
        "import no_such_library",
        "plugin 'sample' of hamlet-sample 1.0 cannot be imported: ModuleNotFoundError: No module named 'no_such_lib",
    ),
    "its import exits": ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    "its import is cancelled": (
        "raise __import__('asyncio').CancelledError",
        "cannot be imported: CancelledError",
    ),
    "its import fails in several lines": (
        "raise ValueError('2 errors\\n  a is missing\\n  b is missing')",
        "cannot be imported: ValueError: 2 errors a is missing b is missing",
    ),
    "a hook is misspelt": (
        """
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_adaptors():
            return []
        """,
        "sample.py, line 4) is no hook, hamlet_adapters is",
    ),
    "a hook has an argument too many": (
        """
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_adapters(config):
            return []
        """,
        "does not fit the hooks of Hamlet",
    ),
    "a hook has a default argument": (
        """
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_wrappers(adapter=None):
            return None
        """,
        "gives defaults to adapter of hamlet_wrappers",
    ),
    "it has no hook": ("def hamlet_adapters():\n        return []", "implements no hook"),
    "it cannot be looked at": (
        "def __dir__():\n        raise RuntimeError('lazy')",
        "does not fit the hooks of Hamlet: RuntimeError: lazy",
    ),
    "its hook fails": (
        """
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_adapters():
            raise KeyError("x")
        """,
        "failed to say which adapters it provides: KeyError",
    ),
    "its hook exits": (
        """
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_adapters():
            raise SystemExit(3)
        """,
        "failed to say which adapters it provides: SystemExit: 3",
    ),
    "its hook returns None": (
        """
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_adapters():
            return None
        """,
        "failed to say which adapters it provides: TypeError: hamlet_adapters returned None; a list is due",
    ),
    "it returns something of several lines": (
        """
        from hamlet_core.api import hookimpl

        class Lines:
            def __repr__(self):
                return "a\\nb"

        @hookimpl
        def hamlet_adapters():
            return [Lines()]
        """,
        "returns a b from hamlet_adapters, which is no AdapterType",
    ),
    "it returns something else": (
        """
        from hamlet_core.api import hookimpl

        @hookimpl
        def hamlet_adapters():
            return ["sample"]
        """,
        "returns 'sample' from hamlet_adapters, which is no AdapterType",
    ),
    "its kind is another": (ADAPTER.format(kind="simple"), "provides an adapter of kind 'simple'"),
    "its options are of another model": (
        ADAPTER.format(kind="sample").replace("options=AdapterOptions", "options=dict"),
        "gives its kind options=<class 'dict'>; a model of AdapterOptions is due",
    ),
    "its role is none": (
        ADAPTER.format(kind="sample").replace('"registry"', '"register"'),
        "gives its kind role='register'; one of registry, gateway, coordinator is due",
    ),
    "nothing opens it": (
        ADAPTER.format(kind="sample").replace("open=object", "open=None"),
        "gives its kind open=None; a function is due",
    ),
    "its backend is none": (
        ADAPTER.format(kind="sample").replace("open=object", "open=object, backend=7"),
        "gives its kind backend=7; module:factory is due",
    ),
    "its summary is no text": (
        ADAPTER.format(kind="sample").replace('"a sample"', "None"),
        "gives its kind summary=None; a text is due",
    ),
    "its version is no number": (
        ADAPTER.format(kind="sample").replace("api_version=1", "api_version='99'"),
        "gives its kind api_version='99'; a number is due",
    ),
    "it is made for an older Hamlet": (
        ADAPTER.format(kind="sample").replace("api_version=1", "api_version=0"),
        "is made for version 0 of the adapter API; this hamlet-core serves none before 1",
    ),
    "it is made for a newer Hamlet": (
        ADAPTER.format(kind="sample").replace("api_version=1", "api_version=99"),
        "is made for version 99 of the adapter API; this hamlet-core has 1",
    ),
    "it provides its kind twice": (
        ADAPTER.format(kind="sample").replace("return [", "return 2 * ["),
        "provides the registry of kind 'sample' 2 times",
    ),
}


@pytest.mark.parametrize(("source", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_refused_with_a_sentence(site, source, sentence):
    site.install("hamlet-sample", "sample", source)
    with pytest.raises(AdapterError) as refused:
        load({"sample"})
    assert sentence in str(refused.value)
    assert "plugin 'sample' of hamlet-sample 1.0" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("source", [source for source, _ in BROKEN.values()], ids=BROKEN)
def test_a_broken_plugin_disturbs_no_other(site, source):
    site.install("hamlet-broken", "broken", source)
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    assert set(load({"sample"}).adapters) == {"sample"}
    found = {info.name: info for info in installed()}
    assert found["sample"].problem == ""
    assert found["sample"].provides == ("registry",)
    assert found["broken"].problem != ""
    assert found["broken"].provides == ()


def test_a_refusal_says_what_to_do_and_keeps_its_cause(site):
    site.install("hamlet-sample", "sample", "import no_such_library")
    with pytest.raises(AdapterError) as refused:
        load({"sample"})
    assert refused.value.mend == "pip install --force-reinstall hamlet-sample"
    assert isinstance(refused.value.__cause__, ModuleNotFoundError)


def test_an_interrupt_is_no_fault_of_a_plugin(site):
    site.install("hamlet-sample", "sample", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load({"sample"})


@pytest.mark.parametrize("backwards", [False, True])
def test_one_name_from_two_distributions_is_refused_with_both_in_one_order(site, monkeypatch, backwards):
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    site.install("acme-sample", "acme", ADAPTER.format(kind="sample"), name="sample", version="2.0")
    found = sorted(loader.discover(), key=str, reverse=backwards)
    monkeypatch.setattr(loader, "discover", lambda: found)
    with pytest.raises(AdapterError, match=r"'sample' is provided by acme-sample 2\.0 and hamlet-sample 1\.0$"):
        load({"sample"})
    assert [bool(info.problem) for info in installed()] == [True, True]


def test_a_kind_that_is_not_installed_names_the_installed_ones(site):
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    with pytest.raises(ConfigError, match="registry kind 'consul' is not installed; installed: sample") as refused:
        load({"consul"})
    assert "`pip install hamlet-consul`" in refused.value.mend


def test_only_kinds_of_the_role_that_is_asked_for_are_named(site):
    site.install("hamlet-file", "file", ADAPTER.format(kind="file"))
    site.install("hamlet-feil", "feil", GATEWAY.format(kind="feil"))
    site.install("hamlet-both", "both", BOTH)
    site.install("hamlet-audit", "audit", WRAPPER)
    site.install("hamlet-broken", "broken", "raise SystemExit('imported')")
    with pytest.raises(
        ConfigError, match=r"registry kind 'fiel' is not installed; installed: both, file$"
    ) as refused:
        load(["fiel"])
    assert refused.value.mend == "write 'file'"
    with pytest.raises(ConfigError, match=r"gateway kind 'fiel' is not installed; installed: both, feil$") as refused:
        load(gateways=["fiel"])
    assert refused.value.mend == "write 'feil'"
    with pytest.raises(
        ConfigError, match=r"plugin 'x' is not installed; installed: audit, both, broken, feil, file$"
    ):
        load((), ["x"])


def test_a_misspelt_kind_gets_the_close_one_suggested(site):
    site.install("hamlet-sample", "sample", ADAPTER.format(kind="sample"))
    with pytest.raises(ConfigError) as refused:
        load({"smaple"})
    assert refused.value.mend == "write 'sample'"


def test_nothing_installed_is_said(site):
    with pytest.raises(HamletError, match=r"plugin 'audit' is not installed; installed: none"):
        load((), ["audit"])


def test_a_wrapper_is_no_registry_kind(site):
    site.install("hamlet-audit", "audit", WRAPPER)
    with pytest.raises(ConfigError, match="no registry can be of kind 'audit'"):
        load({"audit"})


GATEWAY = ADAPTER.replace('role="registry"', 'role="gateway"')
BOTH = """
    from hamlet_core.api import AdapterOptions, AdapterType, hookimpl

    @hookimpl
    def hamlet_adapters():
        return [
            AdapterType(kind="both", role=role, options=AdapterOptions, api_version=1, open=object, summary=role)
            for role in ("registry", "gateway")
        ]
"""


def test_a_gateway_is_loaded_by_its_kind(site):
    site.install("hamlet-sample", "sample", GATEWAY.format(kind="sample"))
    plugins = load(gateways=["sample"])
    assert (set(plugins.adapters), set(plugins.gateways)) == (set(), {"sample"})
    assert [each.provides for each in installed()] == [("gateway",)]


def test_one_kind_may_be_a_registry_and_a_gateway(site):
    site.install("hamlet-both", "both", BOTH)
    plugins = load(["both"], gateways=["both"])
    assert (plugins.adapters["both"].role, plugins.gateways["both"].role) == ("registry", "gateway")
    assert [each.provides for each in installed()] == [("registry", "gateway")]


def test_a_registry_is_no_gateway_and_a_gateway_no_registry(site):
    site.install("hamlet-door", "door", GATEWAY.format(kind="door"))
    site.install("hamlet-shelf", "shelf", ADAPTER.format(kind="shelf"))
    with pytest.raises(ConfigError, match="provides no registry adapter, so no registry can be of kind 'door'"):
        load(["door"])
    with pytest.raises(ConfigError, match="provides no gateway adapter, so no gateway can be of kind 'shelf'"):
        load(gateways=["shelf"])


def test_a_gateway_that_is_not_installed_is_called_one(site):
    with pytest.raises(ConfigError, match="gateway kind 'envoy' is not installed"):
        load(gateways=["envoy"])


def test_one_role_given_twice_is_refused(site):
    site.install("hamlet-both", "both", BOTH.replace('("registry", "gateway")', '("gateway", "gateway")'))
    with pytest.raises(AdapterError, match="provides the gateway of kind 'both' 2 times"):
        load(gateways=["both"])
