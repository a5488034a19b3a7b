"""Plugins of every test in this tree: real backends, found or fetched, and what was not run for want of one."""

pytest_plugins = ["tests.backends.not_run", "tests.backends.consul", "tests.backends.kubernetes"]
