"""What the distribution says of itself holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from hamlet_etcd.options import EtcdOptions
from hamlet_etcd.plugin import hamlet_adapters

README = Path(__file__).parents[1] / "README.md"


def test_the_plugin_provides_a_registry_of_its_kind() -> None:
    (adapter,) = hamlet_adapters()
    assert adapter.kind == "etcd"
    assert adapter.role == "registry"
    assert adapter.options is EtcdOptions


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(ValidationError, match="adress"):
        EtcdOptions.model_validate({"adress": "misspelt"})


@pytest.mark.parametrize("option", EtcdOptions.model_fields)
def test_every_option_is_in_the_table_of_the_readme_with_its_meaning(option: str) -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| `{option}` |"))
    *_, meaning, _ = row.split("|")
    assert meaning.strip()
