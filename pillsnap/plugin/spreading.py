"""How shards are spread over xdist's workers, which takes all tests for quick ones."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pillsnap.config.load import find_config, load_config
from pillsnap.config.selection import Selection
from pillsnap.core.cpus import usable_cpus
from pillsnap.core.errors import PillsnapError
from pillsnap.core.workers import workers_for_gpu
from pillsnap.engines import gpu_providers

# So many tests each worker has from the start: the one it runs, and the next.
_AT_HAND = 2


def hand_out_one_by_one(config: pytest.Config) -> None:
    """No chunks, unless the user wants some: the shards of the slowest cell would all go to one
    worker."""
    if getattr(config.option, "maxschedchunk", 1) is None:
        config.option.maxschedchunk = 1


def auto_workers(config: pytest.Config, usual: int) -> int:
    """Workers of `-n auto`: as many as xdist would start, which is `usual`, but no more than CPUs
    that they may use, and where a candidate runs on a GPU, than models fit into its memory.

    xdist asks before the session's state is made.
    """
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return usual  # the user's
    return min(limit for limit in (usual, usable_cpus(), _gpu_workers(config)) if limit is not None)


def _gpu_workers(config: pytest.Config) -> int | None:
    try:
        path = find_config(config.option.config, os.environ, config.rootpath)
        runtime = load_config(path).runtime
    except PillsnapError:
        return None  # it is said where the state is made
    asked, default = config.option, Selection()
    on_gpu = gpu_providers(asked.engine or default.engines, asked.provider or default.providers)
    return workers_for_gpu(on_gpu, runtime.device_id)


def deal(items: list[pytest.Item], workers: int) -> None:
    """Reorder what workers start with so that each gets one of the first shards, which are of the
    slowest cell, and then one of the next; by itself xdist gives each the next two."""
    count = _AT_HAND * workers
    if len(items) >= count:  # fewer are dealt one by one
        items[:count] = [
            items[place] for start in range(workers) for place in range(start, count, workers)
        ]


def encodable(value: Any) -> Any:
    """A report's content with the lone surrogates of undecodable file names escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(encodable, value))
    return value
