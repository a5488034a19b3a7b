"""What a page shows is compared with what is printed: which differences are found, and which do not count."""

from __future__ import annotations

import pytest

from tests.support.shell import as_shown, steps, taken

PRINTED = """\
     what        how it is
──────────────────────────
ok   peer east   linked
ok   leader      10.1.0.5:8300 leads, 12ms ago

ok   envoy       version 1.40.0 of today
"""


@pytest.mark.parametrize(
    "shown",
    [
        PRINTED,
        "what how it is\nok peer east linked\nok leader 10.1.0.5:8300 leads, 3s ago\nok envoy version 1.40.0 of …\n",
        "…\nok peer east linked\n…\n",
        "…\nok envoy version 1.… of today\n",
        "what …\nok peer …\nok leader …\nok envoy …\n",
        "…\n",
    ],
)
def test_what_may_differ_does(shown: str) -> None:
    assert as_shown(shown, PRINTED)


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "ok peer east linked\n",
        PRINTED.replace("linked", "lost"),
        PRINTED.replace("8300", "8301"),
        PRINTED + "ok more\n",
        PRINTED.replace("ok   peer", "peer"),
        PRINTED.replace(".", "x", 1),
        "…\nok envoy version 2.… of today\n",
        "…\nok leader 10.1.0.5:8300 leads, 12ms ago\nok peer east linked\n…\n",
        "…\nok peer …\nok envoy …\n",
    ],
)
def test_what_is_not_printed_so_is_found(shown: str) -> None:
    assert not as_shown(shown, PRINTED)


def test_what_is_taken_of_a_page_is_what_is_typed_and_what_follows_it() -> None:
    page = """\
```text
a drawing
```

```sh
hamlet status
```

```text
fine
```

```text
a claim
```

```sh title="elsewhere"
hamlet run
```

```sh
true
```
"""
    assert taken(page) == {("sh", "hamlet status\n"), ("text", "fine\n"), ("sh", "true\n")}
    assert [step.commands for step in steps(page)] == ["hamlet status\n", "true\n"]
