"""Every Python that the packages claim, but for that of the other tests, runs the wheels' code."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.backends.not_run import NOT_RUN
from tests.packaging.clean import PROJECTS, ROOT, environment, run
from tests.packaging.pythons import CLAIMED, LEFT_OUT, OURS, interpreter

EXTRAS = {"core": "[testing]", "envoy": "[bundled]"}
SHOWN = ("tests/unit", "tests/contract", "tests/integration/tls", "plugins", "examples/hamlet-audit")
TOOLS = re.compile("pytest|hypothesis|jsonschema|common-expression-language")
"""What of requirements-dev.txt those tests import; the rest checks the code, which needs one Python."""


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("pythons")  # one after the other
@pytest.mark.parametrize("version", [each for each in CLAIMED if each != OURS])
def test_the_wheels_pass_their_tests_under_each_other_python_that_is_claimed(
    version: str, wheels: dict[str, Path], tmp_path: Path
) -> None:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    python = interpreter(version, path=map(Path, os.get_exec_path()), pyenv=pyenv)
    if python is None:
        # Not `leave_out`: which Pythons a machine has is its owner's choice, and no fault of what is tested.
        pytest.skip(f"{NOT_RUN} Python {version} is claimed, and neither on the path nor among those of {pyenv}")
    listed = (ROOT / "requirements-dev.txt").read_text().splitlines()
    (tmp_path / "tools.txt").write_text("\n".join(line for line in listed if TOOLS.match(line)))
    built = [f"{wheels[name]}{EXTRAS.get(name, '')}" for name in PROJECTS]
    binaries = environment(tmp_path, *built, "-r", tmp_path / "tools.txt", python=python)
    # The tests come from the checkout, the code from the wheels: what a .pth file names is looked at last.
    (packages,) = tmp_path.glob("venv/lib/*/site-packages")
    (packages / "checkout.pth").write_text(f"{ROOT}\n")
    alone = ("--rootdir", ROOT, "-c", ROOT / "pyproject.toml", "-o", "pythonpath=", "-p", "no:cacheprovider")
    chosen = [*(ROOT / name for name in SHOWN), *(f"--ignore={ROOT / name}" for name in LEFT_OUT)]
    # Much of it is waiting; but each worker collects everything before it begins.
    pytest_there = (binaries / "pytest", "-q", "-n", "3", "--dist", "worksteal", *alone)
    done = run(*pytest_there, "-p", "tests.packaging.installed", *chosen, cwd=tmp_path, timeout=800)
    assert done.code == 0, done.out + done.err
    passed = re.search(r"(\d+) passed", done.out)
    assert passed is not None, done.out
    assert int(passed[1]) > 2000, done.out
    assert NOT_RUN not in done.out
