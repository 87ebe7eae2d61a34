"""How a cell's file of lower precision comes about: what it is calibrated on, what it must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pillsnap.compare.loading import Load
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import task_of
from pillsnap.compare.verdict import profile_for
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.logrecords import open_log
from pillsnap.engines import find_entry
from pillsnap.export.onnxfile import Exported
from pillsnap.export.quantize import (
    Calibration,
    choose_calibration,
    quantize_once,
    require_opened,
)
from pillsnap.gate.losses import CPU, Labelled, Losses, NothingToLose

log = open_log(__name__)


@dataclass(frozen=True)
class Conversion:
    """Makes a cell's file of FP16 or INT8 out of a float32 export, once for all processes.

    Attributes:
        config: the whole configuration.
        cell: names stage, precision and, for what is verified, mode.
        method: of INT8: static, dynamic, auto or nncf.
        reference: what an INT8 file of method auto is held against while it is searched for.
        verified: paths of the images that the cell verifies.
        labelled: what is known of images that it does not.
        load, threads, run_dir: the run's own.
    """

    config: Config
    cell: Cell
    method: str
    reference: CachedReference
    verified: Callable[[], Iterable[Path]]
    labelled: Labelled
    load: Load
    threads: int
    run_dir: Path

    def __call__(self, source: Exported) -> Exported:
        """The converted file; errors are require_opened's, quantize_once's and choose_images'.

        Where images do not show what method auto keeps layers by, it is static: the cell says of
        its reference what these say.
        """
        try:
            return self._convert(source)
        except NothingToLose as error:
            if self.method != "auto":
                raise
            log.warning("int8 method static in place of auto: %s", " ".join(str(error).split()))
            return replace(self, method="static")._convert(source)

    def _convert(self, source: Exported) -> Exported:
        cell, settings = self.cell, self.config.export.quantize
        int8 = cell.precision == "int8"
        if int8:
            require_opened(self.method, find_entry(cell.engine))
        calibration = self.calibration() if int8 and self.method != "dynamic" else None
        criterion = None
        if calibration is not None and self.method == "auto":

            def tell(effort: str) -> None:
                log.info("int8 method auto, %s, %s", cell.stage, effort)

            criterion = self.losses(calibration).criterion(calibration, tell)
        name = "-".join((cell.stage, cell.precision, self.method, cell.mode))
        return quantize_once(
            self.config,
            cell.stage,
            source,
            cell.precision,
            method=self.method,
            calibration=calibration,
            criterion=criterion,
            exclude=settings.nodes_to_exclude if int8 else settings.fp16_nodes_to_exclude,
            marker=self.run_dir / f"convert-{name}.json",
        )

    def calibration(self) -> Calibration:
        """Images that the cell does not verify: verified ones must not teach."""
        verified = set()
        for path in self.verified():
            with suppress(PillsnapError):  # it will be named when it is verified
                verified.add(sha256_file(path))
        transform = self.reference.reference.transform
        return choose_calibration(self.config, task_of(self.cell.stage).source, transform, verified)

    def losses(self, calibration: Calibration) -> Losses:
        """What models of the cell lose on the calibration images, in parts of its profile."""
        stage, precision = self.cell.stage, self.cell.precision
        reference = self.reference.reference
        # The CPU answers FP16 in float32 but for the weights. INT8 is INT8 there.
        here = precision == "fp16" and self.cell.engine == "onnx"
        return Losses(
            self.config,
            stage,
            profile_for(precision, self.config.compare.tolerances),
            self.reference,
            self.labelled(calibration.paths, stage, reference.class_names),
            self.load,
            self.threads,
            self.cell.provider if here else CPU,
        )
