"""A check of the kit that is skipped in this repository is a failure, but for want of a real backend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
import pytest
from hamlet_core.api.testing import MemoryRegistry, RegistryContract, not_run
from hamlet_core.api.testing.left_out import does_not_apply
from tests.backends.not_run import leave_out

class TestIt(RegistryContract):
    @pytest.fixture
    def backend(self):
        {}
        return MemoryRegistry()

    def test_more(self):
        pytest.skip("it is not the kit's")
"""
CHECK = "test_r8_one_change_that_fails_does_not_fail_the_others"


def run(folder, instead, **environment):
    (folder / "test_it.py").write_text(SUITE.format(instead))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.backends.not_run", "-p", "no:cacheprovider", "-q"),
            *("-c", os.devnull, "-k", f"{CHECK} or test_more", str(folder / "test_it.py")),
        ],
        cwd=ROOT,
        env={**os.environ, "HAMLET_REQUIRE_BACKENDS": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        ("not_run(needs='more rights')", "needs more rights"),
        ("MemoryRegistry.open = lambda *_: not_run(needs='the right to open')", "needs the right to open"),
        ("does_not_apply('others use it')", "the registry is in use: others use it"),
        ("pytest.skip('later')", "later"),
    ],
)
def test_a_check_that_is_left_out_fails(instead, reason, tmp_path):
    said = run(tmp_path, instead)
    assert f"a check of a contract is left out: Skipped: {reason}" in said
    assert "1 skipped" in said[-1]
    assert "1 failed" in said[-1] or "1 error" in said[-1]


def test_one_without_a_real_backend_is_not_run(tmp_path):
    said = run(tmp_path, "leave_out('a server is needed')")
    assert said[-1].startswith("2 skipped")


def test_a_test_of_a_suites_own_may_be_skipped(tmp_path):
    said = run(tmp_path, "pass")
    assert said[-1].startswith("1 passed, 1 skipped")
