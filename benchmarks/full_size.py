"""Export and gate at the size of production: YOLO11m 640 px, EfficientNetV2-S 384 px, 5,000
classes, random weights.

    python benchmarks/full_size.py [--n 32]

Wall seconds and peak resident memory of a whole `pytest -m full` in FP32 and INT8 that exports anew
and calibrates on 16 images, without a reference cache, and per cell verdict, seconds, drift, speed
and memory. Random weights carry no signal, so the expected verdict is `inconclusive` and the exit
code 1; drift and costs are what is measured.
"""

from __future__ import annotations

import json
import resource
import sys

from projects import argument_parser, machine, project_of, run_gate

DRIFT = ("raw_box_err_px", "raw_score_err", "prob_err_max", "logit_err_max", "logit_snr_db")
COSTS = (
    "images_per_s",
    "speedup_over_torch",
    "latency_p50_ms",
    "peak_memory_mib",
    "model_size_mib",
)


def main() -> int:
    arguments = argument_parser(__doc__, project="full", n=32).parse_args()
    project = project_of(arguments)
    project.forget_references()
    ran = run_gate(project, "full", "--fresh-export", "--precision=fp32", "--precision=int8")
    result = {
        "benchmark": "full_size",
        "project": project.name,
        "exit_code": ran.exit_code,
        "seconds": round(ran.seconds, 1),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        **machine(),
        "cells": [
            {
                "id": cell["id"],
                "verdict": cell["verdict"],
                "reason": cell["reason"],
                "samples": cell["samples"],
                "seconds": cell["seconds"],
                **{name: cell["metrics"][name] for name in DRIFT if name in cell["metrics"]},
                **{name: cell["performance"][name] for name in COSTS},
            }
            for cell in ran.report["cells"]
        ],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
