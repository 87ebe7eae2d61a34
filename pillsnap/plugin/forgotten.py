"""The message for a repository that collects the gate's item and does not load its plugin."""

from __future__ import annotations

import os
import sys

import pytest

_HOOKS = "pillsnap.plugin.hooks"


def require_plugin() -> None:
    """Have pytest say what is missing, where it is collecting without the plugin: that the fixture
    of the item is not found would say little. Raises pytest.Collector.CollectError."""
    if "PYTEST_VERSION" in os.environ and _HOOKS not in sys.modules:
        raise pytest.Collector.CollectError(
            "pillsnap.testing is collected, and the plugin that runs its item is not loaded.\n"
            "In pytest's settings (pytest.ini, pyproject.toml):\n"
            "    addopts = -p pillsnap.plugin\n"
            "or in the topmost conftest.py:\n"
            '    pytest_plugins = ["pillsnap.plugin"]\n'
            "or leave both out and run: pillsnap gate"
        )
