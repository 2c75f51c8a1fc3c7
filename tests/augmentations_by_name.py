"""Augmentations as a recipe selects them."""

from __future__ import annotations

from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.plugin_selection import PluginSelection


def augmentation(name, **options):
    plugin = load_registry().get("augmentation", name)
    return PluginSelection("augmentation", name, plugin, plugin.Options(**options), None)
