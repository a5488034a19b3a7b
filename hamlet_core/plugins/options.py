"""The options of every registry, read with its adapter's own model: all that is wrong, with file and line.

It opens no adapter.
"""

from __future__ import annotations

from collections.abc import Mapping

from hamlet_core.api import AdapterOptions, HamletError
from hamlet_core.config.load import Loaded
from hamlet_core.config.problems import ConfigProblems, Problem
from hamlet_core.plugins import loader


def adapter_options(loaded: Loaded) -> Mapping[str, AdapterOptions]:
    """Read the options of every registry with its adapter's own model.

    Raises `ConfigProblems` with all that is wrong: kinds and plugins that are not installed or cannot be
    loaded, and options, each with file and line.
    """
    problems: list[Problem] = []
    options: dict[str, AdapterOptions] = {}
    for name, registry in loaded.config.registries.items():
        try:
            adapter = loader.load([registry.kind]).adapters[registry.kind]
            options[name] = loaded.options(name, adapter.options)
        except ConfigProblems as error:
            problems += error.problems
        except HamletError as error:
            problems.append(loaded.places.problem(("registries", name, "kind"), str(error), error.mend))
    for index, plugin in enumerate(loaded.config.plugins):
        try:
            loader.load([], [plugin])
        except HamletError as error:
            problems.append(loaded.places.problem(("plugins", index), str(error), error.mend))
    if problems:
        raise ConfigProblems(problems)
    return options
