"""How a cell's file of lower precision comes about: what it is calibrated on, what it must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.compare import compare_batches
from pillsnap.compare.loading import Load
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import task_of
from pillsnap.compare.verdict import find_breaches
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.config.tolerances import Tolerances
from pillsnap.core.errors import PillsnapError
from pillsnap.core.hashes import sha256_file, sha256_json
from pillsnap.data.datasets import Sample
from pillsnap.engines import find_entry
from pillsnap.engines.onnxruntime.engine import OnnxEngine
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.export.onnxfile import Exported
from pillsnap.export.quantize import (
    Calibration,
    Criterion,
    choose_calibration,
    quantize_once,
    require_opened,
)

if TYPE_CHECKING:
    import onnx


# Part of a tolerance that method auto must hold on the images it was calibrated on, so that others
# hold the whole of it: the demo's detector held an iou_delta_p95 of 0.08 there, of 0.084 elsewhere.
MARGIN = 0.5


@dataclass(frozen=True)
class Conversion:
    """Makes a cell's file of FP16 or INT8 out of a float32 export, once for all processes.

    Attributes:
        config: the whole configuration.
        cell: names stage, precision and, for what is verified, mode.
        method: of INT8: static, dynamic, auto or nncf.
        reference: what an INT8 file of method auto is held against while it is searched for.
        verified: paths of the images that the cell verifies.
        load, threads, run_dir: the run's own.
    """

    config: Config
    cell: Cell
    method: str
    reference: CachedReference
    verified: Callable[[], Iterable[Path]]
    load: Load
    threads: int
    run_dir: Path

    def __call__(self, source: Exported) -> Exported:
        """The converted file; errors are require_opened's, quantize_once's and choose_images'."""
        cell, settings = self.cell, self.config.export.quantize
        if cell.precision == "int8":
            require_opened(self.method, find_entry(cell.engine))
        calibrated = cell.precision == "int8" and self.method != "dynamic"
        calibration = self._calibration() if calibrated else None
        criterion = None
        if calibration is not None and self.method == "auto":
            criterion = self._criterion(calibration)
        name = "-".join((cell.stage, cell.precision, self.method, cell.mode))
        return quantize_once(
            self.config,
            cell.stage,
            source,
            cell.precision,
            method=self.method,
            calibration=calibration,
            criterion=criterion,
            exclude=settings.nodes_to_exclude,
            marker=self.run_dir / f"convert-{name}.json",
        )

    def _calibration(self) -> Calibration:
        verified = set()
        for path in self.verified():
            with suppress(PillsnapError):  # it will be named when it is verified
                verified.add(sha256_file(path))
        transform = self.reference.reference.transform
        return choose_calibration(self.config, task_of(self.cell.stage).source, transform, verified)

    def _criterion(self, calibration: Calibration) -> Criterion:
        """Well inside the profile of INT8 on the calibration images: verified ones must not
        teach."""
        profile = asdict(self.config.compare.tolerances.int8)
        tolerances = Tolerances(
            **{name: None if limit is None else MARGIN * limit for name, limit in profile.items()}
        )
        samples = [Sample(path.name, path.parent, None) for path in calibration.paths]
        reference, nms, task = self.reference.reference, self.config.nms, task_of(self.cell.stage)
        recorder = task.recorder(reference, nms)

        def passes(model: onnx.ModelProto) -> bool:
            session = open_session(
                model.SerializeToString(), "cpu", self.threads, self.config.session_options
            )
            batches = self.load(samples, reference.transform, self.config.compare.batch_size)
            compared = compare_batches(
                batches, self.reference.outputs, OnnxEngine(session), recorder
            )
            if compared.columns is None:
                return False
            figures = task.measure(
                compared.columns, self.config, reference.strides, population=False, bound=False
            )
            return not find_breaches(figures.metrics, tolerances)

        facts = {
            "tolerances": asdict(tolerances),
            "calibration": calibration.sha256,
            "reference": self.reference.reference.key,
            "nms": asdict(nms),
            "optimization": self.config.runtime.graph_optimization_level,
            "disabled": self.config.runtime.disabled_optimizers,
        }
        return Criterion(sha256_json(facts), passes)
