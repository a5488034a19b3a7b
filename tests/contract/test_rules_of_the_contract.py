"""The rules of the kit are those of the hooks' docstrings."""

import pytest

from hamlet_core.api import RegistrySpec
from hamlet_core.api.testing import rules_of
from hamlet_core.api.testing.rules import named


class Spec:
    def registry_read(self):
        """Read.

        K1. It MUST read
            everything, at once. K9 is no rule here.
        K12. It MUST NOT write.
        Further words.
        """


def test_a_rule_is_the_whole_of_its_paragraph():
    assert {number: (rule.hook, rule.text) for number, rule in rules_of(Spec).items()} == {
        "K1": ("registry_read", "It MUST read everything, at once. K9 is no rule here."),
        "K12": ("registry_read", "It MUST NOT write."),
    }


def test_the_contract_of_a_registry_has_its_rules_in_order():
    rules = rules_of(RegistrySpec)
    assert list(rules) == [f"R{number}" for number in range(1, len(rules) + 1)]
    assert rules["R8"].text == "One change that fails MUST NOT fail the others."
    assert rules["R8"].hook == "registry_apply"


@pytest.mark.parametrize(
    ("test", "rule", "sentence"),
    [
        ("test_r1_first_comes_a_snapshot", "R1", "first comes a snapshot"),
        ("TestX::test_r12_nobody[of another registry]", "R12", "nobody (of another registry)"),
        ("test_g2_it_waits", "G2", "it waits"),
    ],
)
def test_a_check_is_called_after_its_rule(test, rule, sentence):
    assert named(test) == (rule, sentence)


def test_a_check_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="'test_something' must be called test_<rule>_"):
        named("test_something")
