"""A mesh as a folder of files: the registry adapter of kind `file`, and the example of how to write one."""

__version__ = "0.1.0"
