"""Loads the gate's plugin; everything else is in pillsnap/plugin/."""

from __future__ import annotations

pytest_plugins = ["pillsnap.plugin"]
