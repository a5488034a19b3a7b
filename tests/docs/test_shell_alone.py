"""What pages have typed that needs Hamlet alone: certificates; and measurements, which are typed in small.

A measurement takes minutes. So its line is typed as it stands but for `--tiny`, where that is a matter of seconds;
for the others it is looked at that the program takes the line, and that a test measures the same in small.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from bench.__main__ import BENCHMARKS, main
from tests.docs.blocks import ROOT, Block, blocks
from tests.docs.typing_blocks import BINARIES, succeeds, surroundings, typed

# --- certificates ------------------------------------------------------------------------------------------


def names(certificate: Path) -> list[str]:
    """The DNS names in a certificate."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def test_the_lines_of_the_development_authority_make_what_they_say(tmp_path: Path) -> None:
    page, environ = "docs/cli.md", surroundings(BINARIES)
    (both,), (init,), (issue,) = (typed(page, each) for each in ("hamlet pki", "hamlet pki init", "hamlet pki issue"))
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    succeeds(both, tmp_path / "first", environ)
    assert names(tmp_path / "first/pki/agent.crt") == ["agent.west.example"]

    second = tmp_path / "second"
    succeeds(init, second, environ)
    authority = x509.load_pem_x509_certificate((second / "pki/ca.crt").read_bytes())
    assert 29 <= (authority.not_valid_after_utc - authority.not_valid_before_utc).days <= 30
    succeeds(issue, second, environ)
    elsewhere = x509.load_pem_x509_certificate((second / "certs/agent.crt").read_bytes())
    assert names(second / "certs/agent.crt") == ["gateway.west.example"]
    assert (elsewhere.not_valid_after_utc - elsewhere.not_valid_before_utc).total_seconds() < 13 * 3600
    assert names(second / "pki/agent.crt") == ["agent.west.example", "*.west.example"], "the last of the lines"


# --- measurements ------------------------------------------------------------------------------------------

PAGE = "docs/benchmarks.md"
IN_SMALL = {
    **dict.fromkeys(
        ("sync", "latency", "memory", "fanout", "silent", "consul", "envoy"),
        "tests/integration/bench/test_bench_quick.py",
    ),
    "istio": "plugins/istio/tests/test_istio_bench.py",
    "mixed": "tests/mixed/test_mixed_bench.py",
}
"""Which test runs a benchmark with `--tiny`."""
MEASURING = [each for each in blocks(ROOT / PAGE) if each.language == "sh"]
LINES = [line for each in MEASURING for line in each.text.splitlines()]


def test_every_benchmark_is_run_in_small_by_the_test_that_is_said_to() -> None:
    assert IN_SMALL.keys() == BENCHMARKS.keys()
    for name, test in IN_SMALL.items():
        text = (ROOT / test).read_text(encoding="utf-8")
        assert f'"{name}"' in text, f"{test} does not know {name}"
        assert '"--tiny"' in text


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_measures_is_one_that_the_program_takes(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        # The make that runs these tests has no say in it, nor what it was told.
        told = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS")
        alone = {key: value for key, value in os.environ.items() if key not in told}
        shown = subprocess.run(
            ["make", "--dry-run", *words[1:]],
            cwd=ROOT, env=alone, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert shown.returncode == 0, shown.stderr
        words = shlex.split(shown.stdout.splitlines()[-1])
    assert words[:3] == [".venv/bin/python", "-m", "bench"]
    words = words[3 : words.index(">")] if ">" in words else words[3:]
    with main.make_context("bench", words) as context:
        assert set(context.params["names"]) <= BENCHMARKS.keys()


@pytest.mark.timeout(300)
def test_the_lines_that_write_files_write_them(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    lines = [re.sub(r"-m bench\b", "-m bench --tiny", line) for line in LINES if re.search("profile|>", line)]
    assert len(lines) == 2
    succeeds("\n".join(lines), tmp_path, surroundings(PYTHONPATH=str(ROOT)))
    assert json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["rows"]
    assert list((tmp_path / "profiles").iterdir())


def test_every_block_of_the_page_measures() -> None:
    def measures(block: Block) -> bool:
        return all(re.match(r"make bench|\.venv/bin/python -m bench", line) for line in block.text.splitlines())

    assert all(measures(each) for each in MEASURING)
