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
QUICK_START = "## Quick start by hand\n"
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
    before, heading, rest = text.partition(QUICK_START)
    steps, _, after = rest.partition("\n## ")
    if not heading or not after:
        message = f"README.md has no section {QUICK_START.strip()!r}, which is the page of the quick start"
        raise ValueError(message)
    return f"# Quick start\n\n{heading}{steps}" if page == "quick-start.md" else f"{before}## {after}"


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
    parts[::2] = [_LINK.sub(lambda found: _relinked(found, source), text) for text in parts[::2]]
    return "".join(parts)


def _relinked(found: re.Match[str], source: str) -> str:
    text, link = found.groups()
    if "://" in link or link.startswith(("#", "mailto:")):
        return _to_quick_start(found[0], text, link, source)
    target, _, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    page = _page_of(path, anchor)
    if page is None:
        if not os.path.exists(ROOT / path):  # noqa: PTH110 - the path is a link's text
            return found[0]  # mkdocs finds it broken, and says so
        return text if text.strip("`") == path else f"{text} (`{path}`)"
    return f"[{text}]({page}{'#' + anchor if anchor else ''})"


def _to_quick_start(whole: str, text: str, link: str, source: str) -> str:
    in_readme = source == "README.md" and link == "#quick-start-by-hand"
    return f"[{text}](quick-start.md{link})" if in_readme else whole


def _page_of(path: str, anchor: str) -> str | None:
    if path.startswith("docs/") and path.endswith(".md"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "quick-start.md" if anchor == "quick-start-by-hand" else "index.md"
    made = {source: page for page, source in sources().items() if source != "README.md"}
    return made.get(path) or made.get(f"{path}/README.md")
