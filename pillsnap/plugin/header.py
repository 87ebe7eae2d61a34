"""What is said at the start of a gate: that its packages are not as they should be."""

from __future__ import annotations

import pytest

from pillsnap.core.alternatives import find_package_problems
from pillsnap.plugin.state import STATE


def pytest_report_header(config: pytest.Config) -> list[str]:
    if config.stash.get(STATE, None) is None or config.option.collectonly:
        return []
    return [f"pillsnap warning: {problem}" for problem in find_package_problems()]
