"""Whether healthy exports stay quiet whatever the seed, the size, the batch and the threads.

    python benchmarks/healthy.py [--runs 200] [--first 0] > healthy.jsonl

Each run draws a model (the demo's trained ones, or a small architecture with random weights and
settled BatchNorm), a size of the input, an exporter, a batch size, a number of threads, the seed of
the weights and the samples of the demo; exports it, and verifies it by profile strict. What was
drawn depends on the number of the run alone. One JSON line a run, and last one with the counts.
"""

from __future__ import annotations

import json
import sys
import tempfile
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
DETECTOR_SIDES = range(96, 417, 32)
CLASSIFIER_SIDES = range(64, 193)
LARGEST_BATCH, MOST_THREADS = 9, 4
# TorchScript is the default, and takes a tenth of dynamo's time.
DYNAMO = 0.1


def main() -> int:
    parser = workdir_parser(__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    arguments = parser.parse_args()
    keep_offline()
    demo = make_demo(arguments.workdir.resolve()).config
    counts = {"runs": 0, "equivalent": 0, "inconclusive": 0, "alarms": 0}
    for number in range(arguments.first, arguments.first + arguments.runs):
        line = verify(demo, *draw(number))
        print(json.dumps(line), flush=True)
        counts["runs"] += 1
        counts["alarms"] += bool(line["alarms"])
        counts[line["verdict"]] = counts.get(line["verdict"], 0) + 1
    print(json.dumps(counts))
    return 0


def draw(number: int) -> tuple[Healthy, int]:
    """A case and the threads that it runs on."""
    rng = np.random.default_rng(number)
    exporter: Exporter = "dynamo" if rng.random() < DYNAMO else "torchscript"
    if rng.random() < 0.5:
        stage, model = DETECTION, str(rng.choice(DETECTORS))
        height, width = map(int, rng.choice(DETECTOR_SIDES, 2))
    else:
        stage, model = CLASSIFICATION, str(rng.choice(CLASSIFIERS))
        height = width = int(rng.choice(CLASSIFIER_SIDES))
    batch, threads = (int(rng.integers(1, most + 1)) for most in (LARGEST_BATCH, MOST_THREADS))
    opset = 18 if exporter == "dynamo" else int(rng.choice((17, 18)))
    return Healthy(stage, model, (height, width), exporter, opset, batch, seed=number), threads


def verify(demo: Config, case: Healthy, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = find_alarms(case, demo, Path(folder), threads)
    return {**found, "threads": threads}


if __name__ == "__main__":
    sys.exit(main())
