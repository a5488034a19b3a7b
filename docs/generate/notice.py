"""What stands above a page that nobody edits by hand."""

NOTICE = "<!-- Written by docs/generate from the code: change it there, then run `make docs`. -->\n"
