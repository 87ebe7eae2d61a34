"""Time and memory that diagnosing a failing EfficientNetV2-S takes, and what it finds.

    python benchmarks/diagnose_full.py

The project of benchmarks/projects.py at the size of production: EfficientNetV2-S at 384 px with
5,000 classes, random weights. One weight of its export is scaled by 1.05, and the file is diagnosed
in a process of its own on the samples of a gate's cell. One JSON line: `seconds`, `peak_memory_mib`
of that process, whether the node was `named`, and the stated cause.

With --nodes N instead: N nodes drawn by seed over all Conv, Gemm, MatMul, Add and Mul, a weight or
an output of each scaled by 1.05: how many are named, or bracketed by at most 3 nodes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from projects import Project, make_full, workdir_parser

from pillsnap.compare.tasks import read_samples
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config, Paths
from pillsnap.diagnose import FreshExports, Subject, diagnose, locate, make_subject
from pillsnap.engines.timing import peak_resident_mib
from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint, stage_transform
from pillsnap.engines.torch.model import infer_torch, keep_freed_memory
from pillsnap.export import export_classification_onnx
from pillsnap.gate.diagnosing import SAMPLES
from pillsnap.pipeline.images import read_image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.diagnose.node_faults import NodeFault, draw, inject

STAGE, THREADS = "classification", 2
HEAD_FACTOR = 30
FAULT = NodeFault("/blocks/blocks.4/blocks.4.3/conv_pw/Conv", "weight")


def sharpened(project: Project) -> Config:
    """The project with a classifier that is sure of itself: with random weights all of 5,000
    probabilities are near 2e-4, and no fault moves one by more than numeric noise."""
    import torch

    config = project.config
    folder = config.exp_dir.with_name("sharp")
    checkpoint = folder / "checkpoints" / f"{STAGE}_best.pt"
    if not checkpoint.exists():
        source = find_best_checkpoint(config, STAGE)
        content = torch.load(source, weights_only=True)
        content["state_dict"]["classifier.weight"] *= HEAD_FACTOR
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, checkpoint)
    return replace(config, paths=Paths(folder))


def make_subject_of(config: Config, model: Path) -> Subject:
    """The file as candidate of a smoke cell, with the worst samples' number of photos."""
    import torch

    torch.set_num_threads(THREADS)
    keep_freed_memory()
    module = build_model(config, STAGE, find_best_checkpoint(config, STAGE)).module
    samples = read_samples(config, STAGE)[:SAMPLES]
    return make_subject(
        config,
        Cell(STAGE, "onnx", "cpu", "fp32", "smoke"),
        model,
        [(sample.id, read_image(sample.path)) for sample in samples],
        transform=stage_transform(config, STAGE),
        reference=lambda batch: infer_torch(module, batch),
        threads=THREADS,
    )


def measure(config: Config) -> dict[str, Any]:
    healthy = onnx.load(export_classification_onnx(config).path)
    with tempfile.TemporaryDirectory() as folder, FreshExports(config) as exports:
        file = Path(folder, "faulty.onnx")
        onnx.save(inject(healthy, FAULT), file)
        del healthy
        found = diagnose(make_subject_of(config, file), exports, Path(folder, "repro"))
    place = found["layers"]["places"][0]
    return {
        "seconds": found["seconds"],
        "peak_memory_mib": peak_resident_mib(),
        "named": place["node"] == FAULT.node,
        "place": place["node"],
        "cause": found["causes"]["in_words"],
        "problems": found["problems"],
    }


def count_named(config: Config, nodes: int) -> dict[str, Any]:
    healthy = onnx.load(export_classification_onnx(config).path)
    seed = config.compare.seed
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "healthy.onnx")
        onnx.save(healthy, file)
        subject = make_subject_of(config, file)
    images = subject.reference.batch(subject.images[:1])
    faults = draw(healthy, nodes, seed)
    missed = []
    for fault in faults:
        found = locate(inject(healthy, fault), healthy, None, images, threads=THREADS)
        place = found.places[0] if found is not None and found.places else None
        if place is None or fault.node not in place.bracket or place.bracket_size > 3:
            missed.append(fault.node)
    return {"nodes": len(faults), "named": len(faults) - len(missed), "missed": missed}


def main() -> int:
    parser = workdir_parser(__doc__ or "")
    parser.add_argument("--nodes", type=int, help="faults to locate, in place of one diagnosis")
    arguments = parser.parse_args()
    project = make_full(arguments.workdir.resolve(), 24)
    config = sharpened(project)
    found = measure(config) if arguments.nodes is None else count_named(config, arguments.nodes)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
