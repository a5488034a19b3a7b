"""`python -m docs.generate [FOLDER]`: write every page, into docs/ or into a folder to compare with it."""

import sys
from pathlib import Path

from docs.generate import PAGES

folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1]
folder.mkdir(parents=True, exist_ok=True)
for name, page in PAGES.items():
    (folder / name).write_text(page(), encoding="utf-8")
