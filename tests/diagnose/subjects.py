"""The demo's cells as something to diagnose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pillsnap.compare.tasks import read_samples
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.diagnose import Subject, make_subject
from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint, stage_transform
from pillsnap.engines.torch.model import infer_torch
from pillsnap.pipeline.images import read_image

MakeSubject = Callable[..., Subject]


def subjects_of(config: Config) -> MakeSubject:
    """A function that makes a file the candidate of a stage's cell; torch models are kept."""
    modules = {}

    def make(stage: str, model: Path, count: int = 3, precision: str = "fp32") -> Subject:
        if stage not in modules:
            checkpoint = find_best_checkpoint(config, stage)
            modules[stage] = build_model(config, stage, checkpoint).module
        return make_subject(
            config,
            Cell(stage, "onnx", "cpu", precision, "smoke"),
            model,
            [
                (sample.id, read_image(sample.path))
                for sample in read_samples(config, stage)[:count]
            ],
            transform=stage_transform(config, stage),
            reference=lambda batch: infer_torch(modules[stage], batch),
            threads=1,
        )

    return make
