"""What a page shows is compared with what is printed: which differences are found, and which do not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block
from tests.mixed import tutorial
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


def step(commands: str, shown: str | None = None) -> tutorial.Step:
    made = [
        Block(page="docs/x.md", line=1, language=language, title="", heading="", text=text)
        for language, text in (("sh", commands), ("text", shown))
        if text is not None
    ]
    return tutorial.Step(made[0], made[1] if shown is not None else None)


def test_a_step_of_the_mixed_tutorial_is_typed_until_it_prints_what_the_page_shows(tmp_path: Path) -> None:
    counting = step("echo x >> count\nwc -l < count\n", "3\n")
    assert tutorial.typed(counting, tmp_path, {}) == "3\n"
    assert tutorial.typed(step("echo $WHO\n"), tmp_path, {"WHO": "west"}) == "west\n"
    moved = step("echo http://127.0.0.1:1\n", "http://127.0.0.1:8500\n")
    assert tutorial.typed(moved, tmp_path, {}, places={"127.0.0.1:8500": "127.0.0.1:1"})


@pytest.mark.parametrize("wrong", [step("false\n"), step("false\necho fine\n"), step("echo this\n", "that\n")])
def test_a_step_that_fails_or_prints_something_else_says_where_it_stands(
    wrong: tutorial.Step, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"docs/x\.md:1"):
        tutorial.typed(wrong, tmp_path, {}, within=0.1)


def test_what_is_typed_is_noted(tmp_path: Path) -> None:
    one = step("true # noted\n")
    assert one not in tutorial.TYPED
    tutorial.typed(one, tmp_path, {})
    assert one in tutorial.TYPED
