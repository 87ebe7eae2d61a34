"""What the plugin's tests have: small projects for real inner sessions."""

from __future__ import annotations

from tests.plugin.conftest import project

__all__ = ["project"]
