"""What does not fit the hooks is told in one sentence: the hook, its arguments, the class, file and line."""

import inspect
import re

import pluggy
import pytest

from hamlet_core import __version__
from hamlet_core.api import PROJECT, AdapterError, RegistrySpec, hookimpl
from hamlet_core.plugins.registration import register

NEWER = f"; it may be made for a newer hamlet-core than {__version__}"


def line_of(method):
    return inspect.unwrap(method).__code__.co_firstlineno


def refusal(adapter):
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrySpec)
    with pytest.raises(AdapterError) as refused:
        register(manager, adapter, "adapter", described="it")
    assert not manager.get_plugins()
    assert "docs/hooks.md" in refused.value.mend
    assert ("pip install --upgrade hamlet-core" in refused.value.mend) is (NEWER in str(refused.value))
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix("it does not fit the hooks of Hamlet: ")


class Surplus:
    @hookimpl
    def registry_apply(self, changes, force):
        return []

    @hookimpl
    def registry_check(self, quickly):
        return []


def test_arguments_that_a_hook_does_not_have_are_named_with_class_file_and_line():
    assert refusal(Surplus()) == (
        f"registry_apply (Surplus.registry_apply in {__file__}, line {line_of(Surplus.registry_apply)})"
        " takes changes, force, and is given changes; "
        f"registry_check (Surplus.registry_check in {__file__}, line {line_of(Surplus.registry_check)})"
        f" takes quickly, and is given nothing{NEWER}"
    )


class Misspelt:
    @hookimpl
    def registry_aply(self, changes):
        return []


class Foreign:
    @hookimpl(specname="pytest_runtest")
    def something(self):
        return []


def test_what_is_no_hook_is_named_with_the_hook_that_is_meant():
    assert re.fullmatch(
        r"registry_aply \(Misspelt.registry_aply in \S+, line \d+\) is no hook, registry_apply is" + re.escape(NEWER),
        refusal(Misspelt()),
    )
    assert re.fullmatch(
        r"pytest_runtest \(Foreign.something in \S+, line \d+\) is no hook" + re.escape(NEWER), refusal(Foreign())
    )


class Wrapper:
    @hookimpl(wrapper=True)
    def registry_apply(self, changes):
        return []


def test_a_wrapper_that_yields_nothing_is_one_sentence_too():
    assert refusal(Wrapper()).endswith(f"line {line_of(Wrapper.registry_apply)}) is a wrapper without a yield")


def test_whatever_else_pluggy_refuses_is_told_whole_and_on_one_line():
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RegistrySpec)
    manager.register(object(), "adapter")
    with pytest.raises(AdapterError, match="Plugin name already registered: adapter=") as refused:
        register(manager, object(), "adapter", described="it")
    assert "\n" not in str(refused.value)
