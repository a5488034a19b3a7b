"""What a check says of a server by its version. Pure."""

from __future__ import annotations

import pytest
from hamlet_istio.check import version_finding

from hamlet_core.api import Severity


@pytest.mark.parametrize(
    ("major", "minor", "severity"),
    [
        ("1", "19", Severity.ERROR),
        ("1", "19+", Severity.ERROR),
        ("1", "20", Severity.OK),
        ("1", "31+", Severity.OK),
        ("2", "0", Severity.OK),
        ("", "", Severity.ERROR),
    ],
)
def test_a_server_that_is_too_old_is_an_error(major: str, minor: str, severity: Severity) -> None:
    said = {"major": major, "minor": minor, "gitVersion": "v9"}
    finding = version_finding("https://k:6443", said)
    assert finding.severity is severity
    assert finding.message.startswith("https://k:6443 answers: Kubernetes v9")
    assert bool(finding.mend) == (severity is Severity.ERROR)
