"""Plugins: find and validate what is installed, open adapters, call their hooks. The one place with threads."""

from hamlet_core.plugins.loader import PluginInfo, Plugins, installed, load
from hamlet_core.plugins.opening import open_registry
from hamlet_core.plugins.registry_port import RegistryPort

__all__ = ["PluginInfo", "Plugins", "RegistryPort", "installed", "load", "open_registry"]
