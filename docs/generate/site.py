"""A hook of mkdocs: pages whose source stands elsewhere in the repository, and links that lead out of the site.

Every page has one source. The README is the first page and the quick start, each plugin's README is its
reference; they become pages when the site is built, and are written nowhere. A link to a file
of the repository that is no page is shown as the file's path.

mkdocs loads this file by its path: it imports nothing of ours.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
QUICK_START = ("Quick start by hand", "Calls across: gateways")
"""Sections of the README that are one page, under the heading of the page; the first has no heading of its own."""
_MOVED = {"quick-start-by-hand": "quick-start.md", "calls-across-gateways": "quick-start.md#calls-across-gateways"}
"""The anchors of these sections, and where they lead in the site."""
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def sources() -> dict[str, str]:
    """The pages that are made, by their name in the site: the path of the source, from the root."""
    folders = sorted([*ROOT.glob("plugins/*/README.md"), *ROOT.glob("examples/*/README.md")])
    plugins = {
        f"plugin-{readme.parent.name.removeprefix('hamlet-')}.md": readme.relative_to(ROOT).as_posix()
        for readme in folders
    }
    return {
        "index.md": "README.md",
        "quick-start.md": "README.md",
        "contributing.md": "CONTRIBUTING.md",
        "vulnerabilities.md": "SECURITY.md",
        "changes.md": "CHANGELOG.md",
        **plugins,
    }


def content(page: str, source: str) -> str:
    """The Markdown of a page that is made."""
    text = (ROOT / source).read_text(encoding="utf-8")
    if source != "README.md":
        return text
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    found = [each for title in QUICK_START for each in sections if each.startswith(f"## {title}\n")]
    if len(found) != len(QUICK_START):
        message = f"README.md has not the sections {QUICK_START}, which are the page of the quick start"
        raise ValueError(message)
    if page == "quick-start.md":
        found[0] = found[0].removeprefix(f"## {QUICK_START[0]}\n")
        return "# Quick start\n" + "".join(found)
    return "".join(each for each in sections if each not in found)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for page, source in sources().items():
        files.append(File.generated(config, page, content=content(page, source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn links between files of the repository into links between pages, outside of blocks of code."""
    name = page.file.src_uri
    source = sources().get(name, f"docs/{name}")
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda found: _relinked(found, source, name), text) for text in parts[::2]]
    return "".join(parts)


def _relinked(found: re.Match[str], source: str, name: str) -> str:
    text, link = found.groups()
    if "://" in link or link.startswith("mailto:") or (link.startswith("#") and source != "README.md"):
        return found[0]
    target, _, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target)) if target else source
    if path == "README.md":
        return f"[{text}]({_in_readme(anchor, name)})"
    page = _page_of(path)
    if page is None:
        if not os.path.exists(ROOT / path):  # noqa: PTH110 - the path is a link's text
            return found[0]  # mkdocs finds it broken, and says so
        return text if text.strip("`") == path else f"{text} (`{path}`)"
    return f"[{text}]({page}{'#' + anchor if anchor else ''})"


def _in_readme(anchor: str, name: str) -> str:
    """A heading of the README as the page `name` links to it."""
    place = _MOVED.get(anchor) or f"index.md{'#' + anchor if anchor else ''}"
    page, _, heading = place.partition("#")
    return f"#{heading}" if page == name and heading else place


def _page_of(path: str) -> str | None:
    if path.startswith("docs/") and path.endswith(".md"):
        return path.removeprefix("docs/")
    made = {source: page for page, source in sources().items() if source != "README.md"}
    return made.get(path) or made.get(f"{path}/README.md")
