"""Writing a golden bundle: each shard by whoever runs it, the manifest at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.exactness import Exact
from pillsnap.compare.loading import Prepared
from pillsnap.config.cells import Shard
from pillsnap.core.files import make_folder, replace_atomic, write_atomic
from pillsnap.core.hashes import canonical_json, sha256_file
from pillsnap.engines.protocol import Batch

FORMAT = 1
EXACT = ".exact.npy"
_PARTS = (".json", ".input.npy", ".output.npy", EXACT)


class ShardWriter:
    """Keeps the batches of a shard, and writes them when it is whole."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self._folder = folder
        self._name = shard_name(shard)
        self._batches: list[Prepared] = []
        self._outputs: list[Batch] = []

    def add(self, batch: Prepared, output: Batch) -> None:
        self._batches.append(batch)
        self._outputs.append(output)

    def write(self, exact: Exact | None) -> None:
        """Write the shard's files; raises PillsnapError where the folder cannot be written.

        Args:
            exact: the reference's outputs in float64 for the shard's first images; None leaves them
                out.
        """
        if not self._outputs:
            return
        samples = [sample for batch in self._batches for sample in batch.samples]
        facts = {
            "ids": [sample.id for sample in samples],
            "labels": [sample.label for sample in samples],
            "boxes": [
                None if sample.boxes is None else [astuple(box) for box in sample.boxes]
                for sample in samples
            ],
            "contents": [each.hex() for batch in self._batches for each in batch.contents],
            "geometries": [asdict(each) for batch in self._batches for each in batch.geometries],
        }
        make_folder(self._folder)
        base = self._folder / self._name
        write_atomic(base.with_name(f"{base.name}.json"), canonical_json(facts).encode())
        arrays: dict[str, list[NDArray[Any]]] = {
            "input": [batch.array for batch in self._batches],
            "output": self._outputs,
        }
        if exact is not None:
            arrays["exact"] = [exact]
        for part, found in arrays.items():
            path = base.with_name(f"{base.name}.{part}.npy")
            with replace_atomic(path) as temp, temp.open("wb") as file:
                np.save(file, np.concatenate(found))


def shard_name(shard: Shard) -> str:
    """Name of a shard's files: the engines and providers of the candidates play no part."""
    return f"{shard.cell.stage}-{shard.cell.mode}-{shard.index:05d}"


def write_manifest(folder: Path, cells: Iterable[Mapping[str, Any]]) -> Path:
    """Write manifest.json over the files of these cells; returns its path.

    Args:
        cells: stage, mode, shards (names), transform, strides and reference of each.

    Raises:
        PillsnapError: a shard's file is missing, or the manifest cannot be written.
    """
    content = {
        "format": FORMAT,
        "cells": [
            {
                **cell,
                "sha256": {
                    f"{name}{part}": sha256_file(folder / f"{name}{part}")
                    for name in cell["shards"]
                    for part in _PARTS
                    if (folder / f"{name}{part}").exists() or part != EXACT
                },
            }
            for cell in cells
        ],
    }
    path = folder / "manifest.json"
    write_atomic(path, json.dumps(content, indent=1).encode())
    return path
