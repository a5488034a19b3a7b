"""Where this user may make no network namespaces: all of it in a user namespace, in which it may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.netns import IN_A_USER_NAMESPACE

HERE = Path(__file__).parent


@pytest.mark.timeout(400)
@pytest.mark.xdist_group("mixed")
def test_the_mixed_federation_runs_without_being_root() -> None:
    command = [*IN_A_USER_NAMESPACE, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE)]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    if "skipped" in done.stdout:
        pytest.skip(done.stdout[done.stdout.index("NOT RUN:") :].splitlines()[0])
