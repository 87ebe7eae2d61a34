"""How shards are spread over xdist's workers, which takes all tests for quick ones."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pillsnap.config.load import find_config, load_config
from pillsnap.config.selection import Selection
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


def auto_workers(config: pytest.Config) -> int | None:
    """Workers of `-n auto` where a candidate runs on a GPU; None: xdist's own number.

    xdist asks before the session's state is made.
    """
    try:
        path = find_config(config.option.config, os.environ, config.rootpath)
        runtime = load_config(path).runtime
    except PillsnapError:
        return None  # it is said where the state is made
    asked, usual = config.option, Selection()
    on_gpu = gpu_providers(asked.engine or usual.engines, asked.provider or usual.providers)
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
