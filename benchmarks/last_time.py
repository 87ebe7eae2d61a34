"""Whether `--against` names what got worse on the demo, and nothing else.

    python benchmarks/last_time.py [--rounds 20] [--threads 2]

The same run of both stages over and over, each against the one before: nothing may have got worse.
Then runs of which something is worse, against the last of those: one thread in place of --threads,
NMS at another threshold, a weight times 1.003, files in half precision.

    rounds, false_alarms    runs of the same thing, and by round the figures that were named
    named                   by what was made worse, the figures that were named, and the settings
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from projects import Project, keep_offline, machine, make_demo, run_gate, workdir_parser

IOU_THRESHOLD = 0.3
"""Of the demo 0.5."""


def main() -> int:
    parser = workdir_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    keep_offline()
    project = make_demo(arguments.workdir.resolve())
    with tempfile.TemporaryDirectory() as folder:
        found = measure(project, arguments, Path(folder))
    print(json.dumps({"benchmark": "last_time", **machine(), **found}))
    return 0


def measure(project: Project, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    alarms: list[list[str]] = []
    last, *_ = run(project, arguments.threads)
    for _ in range(arguments.rounds):
        last, worse, _ = run(project, arguments.threads, f"--against={last}")
        alarms.append(worse)
        print(json.dumps({"round": len(alarms), "worse": worse}), file=sys.stderr, flush=True)
    against = f"--against={last}"
    files = project.export()
    variants = {
        "one thread": (project, 1, ()),
        "another NMS threshold": (with_threshold(project, folder), arguments.threads, ()),
        "a weight times 1.003": (project, arguments.threads, scaled(files, folder)),
        "half precision": (project, arguments.threads, halved(files, folder)),
    }
    named = {}
    for name, (of, threads, candidates) in variants.items():
        _, worse, settings = run(of, threads, against, *candidates)
        named[name] = worse + settings
    return {"rounds": arguments.rounds, "false_alarms": alarms, "named": named}


def run(project: Project, threads: int, *options: str) -> tuple[Path, list[str], list[str]]:
    """The report of a run, the figures that got worse, and the settings that are others."""
    report = run_gate(project, "smoke", "--no-html", "--threads", str(threads), *options).report
    reports = project.config.out_dir / "reports"
    path = next(reports.glob(f"*-{report['provenance']['run'].rpartition('-')[2]}.json"))
    against = report["against"] or {"changes": [], "settings": []}
    stages = {cell["id"]: cell["stage"] for cell in report["cells"]}
    worse = [
        f"{stages.get(each['cell'], each['cell'])} {each['figure']}"
        for each in against["changes"]
        if each["outcome"] == "worse"
    ]
    settings = [
        f"{each['name']} {each['old']} -> {each['new']}"
        for each in against["settings"]
        if each["old"] != each["new"] and "sha256" not in each["name"]
    ]
    return path, worse, settings


def with_threshold(project: Project, folder: Path) -> Project:
    settings = yaml.safe_load(project.config_path.read_text(encoding="utf-8"))
    settings["export"]["postprocess"]["nms"]["iou_threshold"] = IOU_THRESHOLD
    path = folder / "nms.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return replace(project, config_path=path)


def scaled(files: dict[str, Path], folder: Path) -> list[str]:
    """The option for files of which one convolution in the middle is 1.003 times what it was."""
    import onnx
    from onnx import numpy_helper

    options = []
    for stage, path in files.items():
        model = onnx.load(path)
        weights = [t for t in model.graph.initializer if t.data_type == 1 and len(t.dims) == 4]
        weight = weights[len(weights) // 2]
        values = numpy_helper.to_array(weight) * np.float32(1.003)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(model, folder / f"{stage}-scaled.onnx")
        options += [f"--candidate={stage}={folder / f'{stage}-scaled.onnx'}"]
    return options


def halved(files: dict[str, Path], folder: Path) -> list[str]:
    import onnx

    from pillsnap.export.quantize.fp16 import to_fp16

    options = []
    for stage, path in files.items():
        onnx.save(to_fp16(onnx.load(path)), folder / f"{stage}-half.onnx")
        options += [f"--candidate={stage}={folder / f'{stage}-half.onnx'}"]
    return options


if __name__ == "__main__":
    sys.exit(main())
