"""What attacks need: projects for real inner sessions, a limit that no healthy checkpoint needs."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.conftest import project

__all__ = ["memory_limit", "project"]

GIB = 2**30


@pytest.fixture
def memory_limit() -> Iterator[None]:
    """Two GiB more than this process has: what a healthy checkpoint never needs."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + 2 * GIB
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
