"""`python -m docs.generate`: write every page."""

from pathlib import Path

from docs.generate import PAGES

for name, page in PAGES.items():
    (Path(__file__).parents[1] / name).write_text(page(), encoding="utf-8")
