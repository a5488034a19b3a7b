"""Certificates for tests are valid when they are made, however long the run has lasted by then."""

from datetime import datetime, timedelta

import pytest

from hamlet_core.api.testing import minting
from hamlet_core.api.testing.minting import HOUR, NOW, Mint


@pytest.mark.parametrize("passed", [timedelta(0), timedelta(days=3)])
def test_what_is_minted_late_in_a_run_is_valid(monkeypatch: pytest.MonkeyPatch, passed: timedelta) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def, override]
            return datetime.now(tz) + passed

    now = datetime.now(minting.UTC) + passed
    monkeypatch.setattr(minting, "datetime", Later)
    mint = Mint()
    for certificate, lasts in ((mint.certificate, 24 * HOUR), (mint.leaf("spiffe://a/b").certificate, HOUR)):
        assert certificate.not_valid_before_utc <= now - HOUR + timedelta(seconds=20)
        assert now + lasts <= certificate.not_valid_after_utc + timedelta(seconds=1)
    assert mint.leaf(end=NOW).certificate.not_valid_after_utc == NOW, "also one that has ended by then"
