"""What is built is what should be: the wheels' content, and no stray name becomes importable."""

import re
import subprocess
import sys
import zipfile
from email.parser import Parser

import pytest

from tests.packaging.clean import ALL, package


@pytest.fixture(scope="module", params=ALL)
def name(request):
    """One distribution after the other."""
    return request.param


@pytest.fixture
def built(name, wheels):
    with zipfile.ZipFile(wheels[name]) as wheel:
        yield wheel


@pytest.fixture
def core(wheels):
    with zipfile.ZipFile(wheels["core"]) as wheel:
        yield wheel


def files_of(folder):
    """The package's own files, as the checkout has them."""
    return {
        str(path.relative_to(folder.parent))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def text(wheel, name):
    (found,) = [each for each in wheel.namelist() if each.endswith(f".dist-info/{name}")]
    return wheel.read(found).decode()


def test_a_wheel_is_all_of_its_package_and_nothing_else(name, built):
    names = {each for each in built.namelist() if ".dist-info/" not in each}
    assert names == files_of(package(name))
    assert f"{package(name).name}/py.typed" in names


def test_a_plugins_wheel_says_what_it_provides(name, built):
    if name == "core":
        assert "[hamlet]" not in text(built, "entry_points.txt")
    else:
        assert text(built, "entry_points.txt").split() == ["[hamlet]", name, "=", f"hamlet_{name}.plugin"]


def test_the_core_has_the_generated_messages(core):
    assert "hamlet_core/wire/_gen/federation/types/v1alpha2/federated_service_pb2.py" in core.namelist()


def test_the_core_brings_its_command_and_its_licence(core):
    assert "hamlet = hamlet_core.cli:main" in text(core, "entry_points.txt")
    assert "Apache License" in text(core, "licenses/LICENSE")
    assert Parser().parsestr(text(core, "METADATA"))["License-Expression"] == "Apache-2.0"


def test_the_core_requires_no_vendors_library(core):
    required = Parser().parsestr(text(core, "METADATA")).get_all("Requires-Dist")
    names = {re.split(r"[^A-Za-z0-9-]", each)[0].lower() for each in required}
    assert {"pluggy", "grpcio", "protobuf", "pydantic"} <= names
    assert not names & {"python-consul2", "kubernetes", "requests", "hamlet-file"}


def test_no_other_folder_of_the_checkout_becomes_importable(tmp_path):
    """An editable install must not put `tests`, `proto` or `plugins` on everybody's path."""
    names = ["hamlet_core", "hamlet_file", "tests", "proto", "plugins", "bench", "docs"]
    code = f"import importlib.util\nprint(*[name for name in {names} if importlib.util.find_spec(name)])"
    found = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["hamlet_core", "hamlet_file"]
