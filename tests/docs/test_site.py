"""The site builds strictly, asks nothing of the network, and has every page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks

ROOT = Path(__file__).parents[2]
NO_NETWORK = f"""
import runpy, socket, sys
def refused(*_):
    raise OSError("the build asks the network")
socket.socket.connect = socket.getaddrinfo = refused
sys.argv = ["mkdocs", *sys.argv[1:]]
sys.path.insert(0, {str(ROOT)!r})
runpy.run_module("mkdocs", run_name="__main__")
"""
LOADED = re.compile(r'<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)="?((?:https?:)?//[^"\s>]+)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_check_of_the_network_can_fail() -> None:
    code = NO_NETWORK.rpartition("runpy.")[0] + "socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "the build asks the network" in done.stderr


def test_every_page_of_the_docs_and_every_plugin_is_in_the_site_and_its_navigation(site: Path) -> None:
    sources = {page.stem for page in (ROOT / "docs").glob("*.md")}
    plugins = [*ROOT.glob("plugins/*/README.md"), *ROOT.glob("examples/*/README.md")]
    sources |= {f"plugin-{page.parent.name.removeprefix('hamlet-')}" for page in plugins}
    sources |= {"index", "quick-start", "changes"}
    assert sources <= {page.stem for page in site.glob("*.html")}
    reached = set(re.findall(r'href="?([\w-]+)\.html', (site / "index.html").read_text(encoding="utf-8"))) | {"index"}
    assert sources <= reached, "not in the navigation of mkdocs.yml"


FINDABLE = {
    "operations.md": [
        "Install as a service", "Signals", "Two agents of one mesh", "Upgrade", "Back up and restore",
        "Rotate our certificate", "Rotate a trust bundle", "Replace a token or another secret",
        "Remove a peer for good", "What is where", "Logs", "Alerts",
    ],
    "troubleshooting.md": ["A peer is down", "Symptoms"],
}  # fmt: skip
"""What an operator looks for, by the words that one would look for: headings of a page."""


@pytest.mark.parametrize(("page", "headings"), FINDABLE.items())
def test_what_an_operator_looks_for_has_a_heading_and_something_below_it(page: str, headings: list[str]) -> None:
    sections = re.split(r"^## (.+)\n", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    below = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(below) == headings
    assert [each for each in headings if len(below[each].split()) < 20] == []


def titles(page: Path) -> list[str]:
    """The anchors of the headings of a page of the site, of the first two levels."""
    return re.findall(r'<h[12] id="?([\w-]+)', page.read_text(encoding="utf-8"))


def test_the_quick_start_is_one_page_from_the_beginning_to_calls_across(site: Path) -> None:
    assert titles(site / "quick-start.html") == ["quick-start", "calls-across-gateways"]
    home = (site / "index.html").read_text(encoding="utf-8")
    assert set(titles(site / "quick-start.html")).isdisjoint(titles(site / "index.html"))
    assert re.search(r'<a href="?quick-start\.html"?>quick start</a>', home), "after Install"
    assert re.search(r'<a href="?quick-start\.html#calls-across-gateways"?>', home)
    quick = (site / "quick-start.html").read_text(encoding="utf-8")
    assert re.search(r'<a href="?index\.html#install"?>installed</a>', quick)


def test_troubleshooting_is_found_before_other_pages_and_pages_lead_on(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    boosts = {each["location"].partition("#")[0]: each.get("boost", 1) for each in index["docs"]}
    assert max(boosts, key=lambda page: boosts[page]) == "troubleshooting.html"
    quick = (site / "quick-start.html").read_text(encoding="utf-8")
    beside = re.findall(r'href="?([\w.-]+)"? class="?md-footer__link', quick)
    assert beside == ["index.html", "concepts.html"]


COLUMNS = 80
"""So many fit into a block of code where the page is 1280 px wide: 81 do."""


def test_the_first_drawing_is_seen_whole() -> None:
    first = blocks(ROOT / "README.md")[0]
    assert "registry" in first.text
    assert max(map(len, first.text.splitlines())) <= COLUMNS


def test_names_in_the_first_column_of_a_table_stay_whole(site: Path) -> None:
    links = [
        re.findall(r'href="?(stylesheets/extra[\w.]*css)', page.read_text(encoding="utf-8"))
        for page in site.glob("*.html")
        if page.name != "404.html"  # nobody knows from where that is seen
    ]
    ((styles,),) = {tuple(each) for each in links}
    rules = (site / styles).read_text(encoding="utf-8")
    assert re.search(r"td:first-child code \{[^}]*overflow-wrap: normal;\s*word-break: normal;", rules)


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert LOADED.search('<link rel="stylesheet" href="https://fonts.example/css">')
    for page in pages:
        loaded = [url for url in LOADED.findall(page.read_text(encoding="utf-8")) if "rel=canonical" not in url]
        assert not loaded, f"{page.name}: {loaded}"


def test_a_link_to_a_file_that_is_no_page_is_its_path(site: Path) -> None:
    text = (site / "protocol.html").read_text(encoding="utf-8")
    assert "extensions.proto" in text
    assert 'href="../proto' not in text
    assert 'href="protocol.html' in (site / "index.html").read_text(encoding="utf-8")
