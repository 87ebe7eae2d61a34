"""Whether healthy exports stay quiet whatever the seed, the size, the batch and the threads.

    python benchmarks/healthy.py [--exports 40] [--each 5] [--first 0] > healthy.jsonl

For each export a model is drawn (the demo's trained ones, or a small architecture with random
weights and settled BatchNorm), the size of its input, exporter, opset and the seed of its weights;
for each of its runs the seed of the demo's samples, a batch size and a number of threads. Every run
verifies by profile strict. What is drawn depends on the number of the export and of the run alone.
One JSON line a run, and last one with the counts.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from projects import keep_offline, make_demo, workdir_parser

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config, Exporter
from pillsnap.proof.healthy import Healthy, find_alarms

# "" is the demo's trained model.
DETECTORS = ("", "", "yolo11n", "yolov8n", "yolov10n", "yolo26n", "yolov5n", "yolov9t", "yolo12n")
CLASSIFIERS = (
    *("", "", "resnet18", "mobilenetv3_small_050", "efficientnet_b0", "convnext_atto"),
    *("repvgg_a0", "regnetx_002", "ghostnet_050", "test_byobnet", "densenet121", "hgnetv2_b0"),
)
DETECTOR_SIDES = range(96, 321, 32)
CLASSIFIER_SIDES = range(64, 193)
LARGEST_BATCH, MOST_THREADS = 9, 4
# TorchScript is the default, and takes a tenth of dynamo's time.
DYNAMO = 0.1


def main() -> int:
    parser = workdir_parser(__doc__)
    parser.add_argument("--exports", type=int, default=40)
    parser.add_argument("--each", type=int, default=5, help="runs of an export")
    parser.add_argument("--first", type=int, default=0, help="number of the first export")
    arguments = parser.parse_args()
    keep_offline()
    demo = make_demo(arguments.workdir.resolve()).config
    counts = {"runs": 0, "alarms": 0}
    for number in range(arguments.first, arguments.first + arguments.exports):
        for line in verify(demo, draw(number), arguments.each):
            print(json.dumps(line), flush=True)
            counts["runs"] += 1
            counts["alarms"] += bool(line["alarms"])
            counts[line["verdict"]] = counts.get(line["verdict"], 0) + 1
    print(json.dumps(counts))
    return 0


def draw(number: int) -> Healthy:
    """An export; its batch size is to be drawn by run."""
    rng = np.random.default_rng(number)
    exporter: Exporter = "dynamo" if rng.random() < DYNAMO else "torchscript"
    if rng.random() < 0.5:
        stage, model = DETECTION, str(rng.choice(DETECTORS))
        height, width = map(int, rng.choice(DETECTOR_SIDES, 2))
    else:
        stage, model = CLASSIFICATION, str(rng.choice(CLASSIFIERS))
        height = width = int(rng.choice(CLASSIFIER_SIDES))
    opset = 18 if exporter == "dynamo" else int(rng.choice((17, 18)))
    return Healthy(stage, model, (height, width), exporter, opset, 1, seed=number)


def verify(demo: Config, export: Healthy, runs: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            seed = 1000 * export.seed + number
            rng = np.random.default_rng([seed])
            batch, threads = (int(rng.integers(1, to + 1)) for to in (LARGEST_BATCH, MOST_THREADS))
            compare = replace(demo.compare, seed=seed)
            config = replace(demo, export=replace(demo.export, compare=compare))
            found = find_alarms(replace(export, batch=batch), config, Path(folder), threads)
            yield {**found, "samples_seed": seed, "threads": threads}


if __name__ == "__main__":
    sys.exit(main())
