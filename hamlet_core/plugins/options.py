"""The options of every adapter, read with its own model: all that is wrong, with file and line.

It opens no adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hamlet_core.api import AdapterOptions, HamletError
from hamlet_core.config.load import Loaded
from hamlet_core.config.model import Egress, Gateway
from hamlet_core.config.problems import ConfigProblems, Problem
from hamlet_core.plugins import loader


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the adapters are told: by the name of the registry, and for each gateway that a plugin provides."""

    registries: Mapping[str, AdapterOptions]
    gateway: AdapterOptions | None
    egress: AdapterOptions | None


def adapter_options(loaded: Loaded) -> Options:
    """Read the options of every registry, and of the gateway, with its adapter's own model.

    Raises `ConfigProblems` with all that is wrong: kinds and plugins that are not installed or cannot be
    loaded, and options, each with file and line.
    """
    problems: list[Problem] = []
    options: dict[str, AdapterOptions] = {}
    for name, registry in loaded.config.registries.items():
        try:
            adapter = loader.load([registry.kind]).adapters[registry.kind]
            options[name] = loaded.options(("registries", name), registry.options, adapter.options)
        except ConfigProblems as error:
            problems += error.problems
        except HamletError as error:
            problems.append(loaded.places.problem(("registries", name, "kind"), str(error), error.mend))
    gateways: dict[str, AdapterOptions] = {}
    configured: dict[str, Gateway | Egress | None] = {
        "gateway": loaded.config.way_in,
        "egress": loaded.config.egress,
    }
    for key, gateway in configured.items():
        if gateway is None:
            continue
        try:
            adapter = loader.load(gateways=[gateway.kind]).gateways[gateway.kind]
            gateways[key] = loaded.options((key,), gateway.options, adapter.options)
        except ConfigProblems as error:
            problems += error.problems
        except HamletError as error:
            problems.append(loaded.places.problem((key, "kind"), str(error), error.mend))
    for index, plugin in enumerate(loaded.config.plugins):
        try:
            loader.load([], [plugin])
        except HamletError as error:
            problems.append(loaded.places.problem(("plugins", index), str(error), error.mend))
    if problems:
        raise ConfigProblems(problems)
    return Options(registries=options, gateway=gateways.get("gateway"), egress=gateways.get("egress"))
