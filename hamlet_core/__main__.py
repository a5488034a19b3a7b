"""`python -m hamlet_core`: the command line, where the script `hamlet` is not on the path."""

from hamlet_core.cli import main

if __name__ == "__main__":
    main(prog_name="hamlet")
