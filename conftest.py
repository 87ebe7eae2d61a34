"""Loads the gate's plugin; everything else is in pillsnap/plugin.py."""

from __future__ import annotations

pytest_plugins = ["pillsnap.plugin"]
