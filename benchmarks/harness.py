"""What the gate itself costs by the sample: time and memory of everything but images and models.

    python benchmarks/harness.py [--n 1000000] [--classes 24] [--batch 16] [--shard-size 2000]

Engines that cost nothing and preprocessed batches at hand, in one process without pytest: a run of
mode `full` over N samples of a CSV manifest, compared, recorded, judged.

    harness_us_per_sample    microseconds of comparing, recording, book-keeping, figures, verdict
    rss_growth_mb            resident memory at the end less that after 10,000 samples, freed
                             memory given back to the system at both
    peak_growth_mb           the highest resident memory in between, less the same
    collect_us_per_sample    reading the manifest and choosing samples, which comes before; samples
                             are held in memory from then on, and are in none of the growths

And for a detector (--images 20000 --boxes 5), in a process of its own: by how much resident memory
peaks while mAP of both engines and the bootstrap of their difference are computed from boxes at
hand, and in what time. The two sides differ, so that the bootstrap has all of its work to do.

    map_peak_mb, map_seconds
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from projects import machine

from pillsnap.compare.loading import Prepared
from pillsnap.config.load import load_config
from pillsnap.config.selection import Selection
from pillsnap.data.datasets import Sample
from pillsnap.engines import Entry, Reference, Transform, register
from pillsnap.gate.ledger import Ledger
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.transforms import ClassifyTransform

SETTLED = 10_000
"""Samples after which memory should have stopped growing."""
MB = 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("--n", 1_000_000),
        ("--classes", 24),
        ("--batch", 16),
        ("--shard-size", 2000),
        ("--images", 20_000),
        ("--boxes", 5),
    ):
        parser.add_argument(name, type=int, default=default, help=f"default: {default}")
    parser.add_argument("--map-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.map_only:
        print(json.dumps(measure_map(arguments.images, arguments.boxes)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        harness = measure_harness(arguments, Path(folder))
    sizes = (f"--images={arguments.images}", f"--boxes={arguments.boxes}")
    done = subprocess.run(
        [sys.executable, __file__, "--map-only", *sizes], capture_output=True, check=True
    )
    print(json.dumps({"benchmark": "harness", **machine(), **harness, **json.loads(done.stdout)}))
    return 0


@dataclass
class Free:
    """An engine that gives one of a few outputs that it has ready, in turn."""

    outputs: list[np.ndarray]
    info: dict[str, Any] = field(default_factory=lambda: {"providers": ["free"]})
    turn: int = 0

    def run(self, batch: np.ndarray) -> np.ndarray:
        output = self.outputs[self.turn % len(self.outputs)]
        self.turn += 1
        return output[: len(batch)]


def register_free(classes: int, batch: int) -> None:
    """Reference and candidate with the drift of a healthy export; the reference is mostly right."""
    rng = np.random.default_rng(0)
    # Sample i is of class i % classes, so labels repeat after so many batches.
    period = classes // math.gcd(classes, batch)
    count = period * math.ceil(64 / period)
    logits = rng.normal(size=(count * batch, classes)).astype(np.float32)
    logits[np.arange(len(logits)), np.arange(len(logits)) % classes] += 6
    drift = rng.normal(scale=1e-6, size=logits.shape).astype(np.float32)
    reference, candidate = (np.split(outputs, count) for outputs in (logits, logits + drift))
    transform = ClassifyTransform(8, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
    register(
        Entry(
            "free",
            lambda *_: Free(candidate),
            reference=lambda _: Reference(Free(reference), transform),
        )
    )


@dataclass
class AtHand:
    """Gives the same arrays and hashes for every batch, and looks at memory on the way."""

    array: np.ndarray
    seen: int = 0
    settled: int = 0

    def load(
        self, samples: Sequence[Sample], transform: Transform, batch_size: int
    ) -> Iterator[Prepared]:
        contents = [bytes(32)] * batch_size
        for start in range(0, len(samples), batch_size):
            batch = list(samples[start : start + batch_size])
            yield Prepared(batch, self.array[: len(batch)], contents[: len(batch)])
            self.seen += len(batch)
            if not self.settled and self.seen >= SETTLED:
                self.settled = watch_peak()


def measure_harness(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    register_free(arguments.classes, arguments.batch)
    hand = AtHand(np.zeros((arguments.batch, 3, 8, 8), np.float32))
    run = GateRun(
        load_config(write_project(arguments, folder)),
        Selection(stages=("classification",), engines=("free",)),
        threads=1,
        run_dir=folder / "run",
        load=hand.load,
    )
    # As ledger.judge_mode, with a watch in hand.
    begin = time.perf_counter()
    ledger = Ledger(run)
    shards = [shard for shard in run.plan.shards() if shard.cell.mode == "full"]
    ledger.expect(f"[{shard.id}]" for shard in shards)
    collected = time.perf_counter()
    for shard in shards:
        ledger.add(run.run(shard).as_dict())
    compared = time.perf_counter()
    (result,) = ledger.results()
    judged = time.perf_counter()

    peak, held = memory("VmHWM"), trim()

    assert result.metrics["samples"] == arguments.n, result.verdict
    per_sample = 1e6 / arguments.n
    return {
        "n": arguments.n,
        "classes": arguments.classes,
        "batch_size": arguments.batch,
        "shard_size": run.plan.shard_size,
        "verdict": result.verdict.name,
        "harness_us_per_sample": round((judged - collected) * per_sample, 2),
        "compare_us_per_sample": round((compared - collected) * per_sample, 2),
        "judge_us_per_sample": round((judged - compared) * per_sample, 2),
        "collect_us_per_sample": round((collected - begin) * per_sample, 2),
        "rss_growth_mb": round((held - hand.settled) / MB, 1),
        "peak_growth_mb": round((peak - hand.settled) / MB, 1),
        "rss_settled_mb": round(hand.settled / MB, 1),
    }


def write_project(arguments: argparse.Namespace, folder: Path) -> Path:
    """A manifest of n photos that nobody will open, and its configuration."""
    width = len(str(arguments.n))
    with (folder / "val.csv").open("w") as manifest:
        manifest.write("image_path,mapping_code\n")
        for index in range(arguments.n):
            manifest.write(f"{index:0{width}d}.png,{index % arguments.classes}\n")
    class_map = {str(index): index for index in range(arguments.classes)}
    (folder / "class_map.json").write_text(json.dumps(class_map))
    settings = {
        "paths": {"exp_dir": "."},
        "data": {"val": {"single": "val.csv"}, "class_map": "class_map.json"},
        "classification": {"num_classes": arguments.classes},
        "export": {"compare": {"batch_size": arguments.batch, "shard_size": arguments.shard_size}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def measure_map(images: int, boxes: int) -> dict[str, Any]:
    import pycocotools.cocoeval  # noqa: F401  # its memory is not mAP's

    from pillsnap.compare.figures.bootstrap import bootstrap_map_deltas, upper_bounds
    from pillsnap.compare.figures.coco import evaluate

    rng = np.random.default_rng(0)
    truth = [random_boxes(rng, boxes) for _ in range(images)]
    reference, candidate = ([found(rng, labelled) for labelled in truth] for _ in range(2))
    settled = watch_peak()
    started = time.perf_counter()
    sides = [evaluate(truth, side, max_detections=100) for side in (reference, candidate)]
    assert sides[0] is not None and sides[1] is not None
    maps = [side.mean_ap() for side in sides]
    deltas = bootstrap_map_deltas(sides[0], sides[1], seed=0)
    upper_bounds(deltas)
    return {
        "map_images": images,
        "map_boxes": 2 * images * boxes,
        "map_seconds": round(time.perf_counter() - started, 2),
        "map_peak_mb": round((memory("VmHWM") - settled) / MB, 1),
        "map_resamples": len(deltas),
        "map_0_5": round(maps[0].map_0_5, 3),
    }


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 5], x1, y1, x2, y2 in pixels and class 0."""
    corner, size = rng.uniform(0, 560, (count, 2)), rng.uniform(20, 80, (count, 2))
    return np.concatenate([corner, corner + size, np.zeros((count, 1))], axis=1)


def found(rng: np.random.Generator, labelled: np.ndarray) -> np.ndarray:
    """[count, 6], the boxes a few pixels off, with a confidence."""
    boxes = labelled[:, :4] + rng.normal(scale=2, size=(len(labelled), 4))
    return np.concatenate([boxes, rng.uniform(0.3, 1, (len(labelled), 1)), labelled[:, 4:]], axis=1)


def trim() -> int:
    """Give back what has been freed, which would hide growth; resident bytes then."""
    gc.collect()
    with suppress(AttributeError):  # not glibc's allocator
        ctypes.CDLL(None).malloc_trim(0)
    return memory("VmRSS")


def watch_peak() -> int:
    """Start counting VmHWM anew; resident bytes now, less what has been freed."""
    trim()
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(name: str) -> int:
    """Bytes that the kernel notes for this process: VmRSS is resident now, VmHWM its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)


if __name__ == "__main__":
    sys.exit(main())
