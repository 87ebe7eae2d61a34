"""What a model in lower precision loses, by the figures that the gate judges that precision by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pillsnap.compare import compare_batches
from pillsnap.compare.drift import tolerance_shares
from pillsnap.compare.loading import Load, Prepared
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import task_of
from pillsnap.config.settings import Config
from pillsnap.core.errors import DataError
from pillsnap.core.hashes import sha256_json
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.engines.onnxruntime.engine import OnnxEngine
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.export.quantize import Calibration, Criterion, Loss, Tell
from pillsnap.export.quantize.output_error import output_error

if TYPE_CHECKING:
    import onnx

CPU = "cpu"

# Images that layers are measured on by themselves.
FEW = 16


class NothingToLose(DataError):
    """Images on which the reference has no signal, or that cannot be read."""


@dataclass(frozen=True)
class Losses:
    """Measures models of a stage on images that the run does not verify.

    Attributes:
        profile: of the tolerances that losses are parts of.
        reference: what a model is held against.
        samples: the images, with labels where those are known.
        load, threads: the run's own.
        provider: that models are run on, of ONNX Runtime's.
    """

    config: Config
    stage: str
    profile: str
    reference: CachedReference
    samples: Sequence[Sample]
    load: Load
    threads: int
    provider: str

    def criterion(self, calibration: Calibration, tell: Tell | None = None) -> Criterion:
        """Layers are kept by these losses."""
        config, reference = self.config, self.reference.reference
        facts = {
            "tolerances": asdict(getattr(config.compare.tolerances, self.profile)),
            "images": calibration.sha256,
            "labels": [repr((sample.label, sample.boxes)) for sample in self.samples],
            "reference": reference.key,
            "nms": asdict(config.nms),
            "optimization": config.runtime.graph_optimization_level,
            "disabled": config.runtime.disabled_optimizers,
            "batch_size": config.compare.batch_size,
            "threads": self.threads,
        }
        # Without a key it is not known which reference has answered, nor with a GPU on which.
        known = reference.key is not None and self.provider == CPU
        memory = config.exp_dir / "cache" / "sensitivity" if known else None
        return Criterion(sha256_json(facts), self.measure, memory, tell)

    def measure(self, model: onnx.ModelProto, few: bool) -> Loss:
        """What a model loses on the first images, or on all of them.

        Raises:
            NothingToLose: the reference shows nothing on them that could be lost.
        """
        config, reference = self.config, self.reference.reference
        task, samples = task_of(self.stage), self.samples[:FEW] if few else self.samples
        session = open_session(
            model.SerializeToString(), self.provider, self.threads, config.session_options
        )
        recorder = task.recorder(reference, config.nms)
        answers: list[tuple[Batch, Batch]] = []

        def see(batch: Prepared, ref: Batch, cand: Batch) -> None:
            if sum(len(found) for _, found in answers) < FEW:
                answers.append((recorder.as_candidate(ref), cand))

        compared = compare_batches(
            self.load(samples, reference.transform, config.compare.batch_size),
            self.reference.outputs,
            OnnxEngine(session),
            recorder,
            see,
        )
        nothing = "none of them can be read"
        if compared.columns is not None:
            figures = task.measure(
                compared.columns, config, reference.strides, population=not few, bound=False
            )
            nothing = figures.no_signal or ""
        if compared.columns is None or nothing:
            raise NothingToLose(
                "the images to calibrate on do not show what lower precision costs",
                where=f"{len(samples)} images of {self.stage}",
                got=nothing,
                hint="set data.calibration to images like those that the model is used on",
            )
        tolerances = getattr(config.compare.tolerances, self.profile)
        ref, cand = (np.concatenate(side) for side in zip(*answers, strict=True))
        return Loss(tolerance_shares(figures.metrics, tolerances), output_error(ref, cand))

    def first_image(self) -> Batch:
        """The first image that can be read, [1,3,H,W]."""
        batches = self.load(self.samples, self.reference.reference.transform, 1)
        return next(batch.array for batch in islice(batches, len(self.samples)) if batch.samples)


Labelled = Callable[[Sequence[Path], str, Sequence[str]], Sequence[Sample]]
"""Samples of images, as Plan.labelled gives them."""
