"""What a Ray cluster brings, what it costs by the shard, and what it takes of the driver's memory.

    python benchmarks/ray_scaling.py [--shards 2000] [--sleep-ms 50] [--nothing 100000]

Two local nodes of one CPU each, and an engine whose candidate sleeps a fixed time for the one image
of a shard; everything else of a shard is what it always is: read, compared, recorded, its records
and outcome written by the driver. One process without Ray, one node, then two.

    ray_over_serial    time of one node / time of two, workers started
    beyond_ms          time of one node less that of one process without Ray, by the shard, whose
                       first quarter that runs; below 0 where the driver writes while the worker
                       is at the next
    start_s            until a worker has started

And in another process, shards without a sample, which take nothing but what handing them out and
back takes; the list of them is made before:

    driver_memory_mb   by how much resident memory of the driver has grown at its highest
    cost_ms            what a shard takes, handed out and taken back: Ray's and the driver's
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from harness import MB, memory, watch_peak
from PIL import Image
from projects import machine

from pillsnap.config.cells import Cell, Shard
from pillsnap.config.load import load_config
from pillsnap.config.selection import Selection
from pillsnap.engines import Entry, Reference, register
from pillsnap.gate.cluster.controller import ClusterRun
from pillsnap.gate.cluster.pool import Pool
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.transforms import ClassifyTransform

CELL = Cell("classification", "sleeping", "cpu", "fp32", "full")
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@dataclass
class Sleeping:
    """Answers for an image after a while."""

    seconds: float
    info: dict[str, Any] = field(default_factory=lambda: {"providers": ["sleeping"]})

    def run(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        return np.tile(np.arange(4, dtype=np.float32), (len(batch), 1))


def register_sleeping(seconds: float) -> None:
    transform = ClassifyTransform(8, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    register(
        Entry(
            "sleeping",
            lambda *_: Sleeping(seconds),
            reference=lambda _: Reference(Sleeping(0.0), transform),
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=2000)
    parser.add_argument("--sleep-ms", type=float, default=50.0)
    parser.add_argument("--nothing", type=int, default=100_000, help="shards without a sample")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ |= {"RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory_only:
            print(json.dumps(measure_memory(Path(folder), arguments.nothing)))
            return 0
        found = measure_speed(Path(folder), arguments.shards, arguments.sleep_ms / 1000)
    print(json.dumps({"benchmark": "ray_over_serial", **machine(), **found}), flush=True)
    again = [sys.executable, __file__, "--memory-only", f"--nothing={arguments.nothing}"]
    done = subprocess.run(again, stdout=subprocess.PIPE, check=True)
    last = done.stdout.splitlines()[-1]
    print(json.dumps({"benchmark": "driver_memory", **machine(), **json.loads(last)}))
    return 0


def measure_speed(folder: Path, shards: int, seconds: float) -> dict[str, Any]:
    register_sleeping(seconds)
    config = write_project(folder, shards)
    work = [Shard(CELL, number + 1, shards) for number in range(shards)]
    serial = make_run(config, folder / "serial")
    serial.run(work[0])
    started = time.perf_counter()
    for shard in work[1 : shards // 4]:
        serial.run(shard)
    alone = (time.perf_counter() - started) / (shards // 4 - 1)
    took, start = {}, {}
    for nodes in (1, 2):
        with cluster(nodes) as address:
            run = make_run(config, folder / str(nodes))
            start[nodes], took[nodes] = time_cluster(run, work, address)
    return {
        "shards": shards,
        "sleep_ms": 1000 * seconds,
        "ray_over_serial": round(took[1] / took[2], 3),
        "beyond_ms": round(1000 * (took[1] / shards - alone), 2),
        "without_ray_ms": round(1000 * alone, 2),
        "one_node_s": round(took[1], 2),
        "two_nodes_s": round(took[2], 2),
        "start_s": round(start[2], 2),
    }


def time_cluster(run: GateRun, work: list[Shard], address: str) -> tuple[float, float]:
    """Seconds until every node has done a shard, and of all further shards."""
    pool = Pool(address)
    try:
        begun = time.perf_counter()
        session = ClusterRun(run, pool)
        nodes = len(pool.nodes())
        session.begin(work)
        done = 0
        while sum(node["shards"] > 0 for node in session.as_dict()["nodes"]) < nodes:
            assert session.run(work[done]).failure is None
            done += 1
        started = time.perf_counter()
        for shard in work[done:]:
            assert session.run(shard).failure is None
        seconds = time.perf_counter() - started
        # As if all of them had been timed.
        return started - begun, seconds * len(work) / (len(work) - done)
    finally:
        pool.close(session.end())


def measure_memory(folder: Path, shards: int) -> dict[str, Any]:
    register_sleeping(0.0)
    run = make_run(write_project(folder, 1), folder / "run")
    # All but the first are beyond the one image.
    work = [Shard(CELL, number + 2, shards + 1) for number in range(shards)]
    with cluster(2) as address:
        pool = Pool(address)
        session = ClusterRun(run, pool)
        session.begin(work[:10])
        for shard in work[:10]:
            session.run(shard)
        settled = watch_peak()
        started = time.perf_counter()
        session.begin(work[10:])
        for shard in work[10:]:
            assert session.run(shard).samples == 0
        seconds = time.perf_counter() - started
        peak = memory("VmHWM")
        pool.close(session.end())
    return {
        "shards": shards,
        "driver_memory_mb": round((peak - settled) / MB, 1),
        "driver_settled_mb": round(settled / MB, 1),
        "cost_ms": round(1000 * seconds / shards, 3),
    }


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(nodes - 1):
        made.add_node(**NODE)
    try:
        yield made.address
    finally:
        made.shutdown()


def make_run(config: Path, run_dir: Path) -> GateRun:
    selection = Selection(stages=("classification",), engines=("sleeping",))
    return GateRun(load_config(config), selection, threads=1, run_dir=run_dir)


def write_project(folder: Path, images: int) -> Path:
    """So many photos of 8 x 8 pixels, a shard each, and their configuration."""
    rng = np.random.default_rng(0)
    for number in range(images):
        path = folder / "val" / f"K-{number % 4}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    (folder / "class_map.json").write_text(json.dumps({f"K-{index}": index for index in range(4)}))
    settings = {
        "paths": {"exp_dir": "."},
        "data": {"val": {"single": "val"}, "class_map": "class_map.json"},
        "classification": {"num_classes": 4},
        "export": {
            "input_shape": {"classification": [1, 3, 8, 8]},
            "compare": {"batch_size": 1, "shard_size": 1, "reference_cache_gib": 0},
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


if __name__ == "__main__":
    sys.exit(main())
