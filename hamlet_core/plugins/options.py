"""The options of every adapter, read with its own model: all that is wrong, with file and line.

It opens no adapter.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from hamlet_core.api import AdapterError, AdapterOptions, AdapterType, HamletError
from hamlet_core.config.driven import Coordinator, Egress, Gateway, Registry
from hamlet_core.config.load import Loaded
from hamlet_core.config.problems import ConfigProblems, Problem
from hamlet_core.config.values import Loc
from hamlet_core.plugins import loader
from hamlet_core.plugins.attribution import FAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the adapters are told: by the name of the registry, and for each gateway and coordinator of a plugin."""

    registries: Mapping[str, AdapterOptions]
    gateway: AdapterOptions | None
    egress: AdapterOptions | None
    coordinator: AdapterOptions | None


def adapter_options(loaded: Loaded) -> Options:
    """Read the options of every registry, of the gateways and of the coordinator with its adapter's own model.

    Raises `ConfigProblems` with all that is wrong: kinds and plugins that are not installed or cannot be
    loaded, and options, each with file and line.
    """
    problems: list[Problem] = []
    options: dict[str, AdapterOptions] = {}
    for name, registry in loaded.config.registries.items():
        try:
            adapter = loader.load([registry.kind]).adapters[registry.kind]
            options[name] = _read(loaded, ("registries", name), registry, adapter)
        except ConfigProblems as error:
            problems += error.problems
        except HamletError as error:
            problems.append(loaded.places.problem(("registries", name, "kind"), str(error), error.mend))
    beside: dict[str, AdapterOptions] = {}
    configured: dict[str, Gateway | Egress | Coordinator | None] = {
        "gateway": loaded.config.way_in,
        "egress": loaded.config.egress,
        "coordinator": loaded.config.coordinator,
    }
    for key, section in configured.items():
        if section is None:
            continue
        try:
            beside[key] = _read(loaded, (key,), section, _beside(section))
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
    return Options(
        registries=options,
        gateway=beside.get("gateway"),
        egress=beside.get("egress"),
        coordinator=beside.get("coordinator"),
    )


def _read(
    loaded: Loaded, loc: Loc, section: Registry | Gateway | Egress | Coordinator, adapter: AdapterType
) -> AdapterOptions:
    """The options of one section. Raises `ConfigProblems`, and `AdapterError` where the model itself fails."""
    try:
        return loaded.options(loc, section.options, adapter.options)
    except HamletError:
        raise
    except Exception as error:  # a validator of the model's may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}"  # what it says may quote a secret
        message = f"the model of its options fails with {type(error).__name__} in {where}"
        raise AdapterError(message, mend=FAULT) from error


def _beside(section: Gateway | Egress | Coordinator) -> AdapterType:
    """The adapter type of what is no registry."""
    kind = section.kind
    if isinstance(section, Coordinator):
        return loader.load(coordinators=[kind]).coordinators[kind]
    return loader.load(gateways=[kind]).gateways[kind]
