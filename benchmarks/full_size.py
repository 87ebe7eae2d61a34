"""Export and gate at the size of production: YOLO11m 640 px, EfficientNetV2-S 384 px, 5,000
classes, random weights.

    python benchmarks/full_size.py [--n 32]

Wall seconds and peak resident memory of a whole `pytest -m full` that exports anew, without a
reference cache, and per cell verdict, seconds and drift. Random weights carry no signal, so the
expected verdict is `inconclusive` and the exit code 1; drift is what is measured.
"""

from __future__ import annotations

import json
import resource
import sys

from projects import argument_parser, machine, project_of, run_gate

DRIFT = ("raw_box_err_px", "raw_score_err", "prob_err_max", "logit_err_max", "logit_snr_db")


def main() -> int:
    arguments = argument_parser(__doc__, project="full", n=32).parse_args()
    project = project_of(arguments)
    project.forget_references()
    ran = run_gate(project, "full", "--fresh-export")
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
            }
            for cell in ran.report["cells"]
        ],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
