"""Ranges that leave outliers out, by ONNX Runtime's own calibrators over histograms."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import CalibrationMethod
from pillsnap.core.errors import ExportError
from pillsnap.engines import Batch
from pillsnap.export.onnxfile import stage_of
from pillsnap.export.quantize.calibration import Ranges, measure_ranges
from pillsnap.export.quantize.graph import tidied
from pillsnap.export.quantize.run_graph import fed
from pillsnap.export.quantize.silenced import quantising

if TYPE_CHECKING:
    import onnx


def find_ranges(
    model: onnx.ModelProto,
    batches: Iterable[Batch],
    ops: Collection[str],
    method: CalibrationMethod,
) -> tuple[Ranges, int]:
    """The range of every float tensor that nodes of these operators touch, and the number of images
    seen.

    minmax takes the smallest and the largest value, see measure_ranges. entropy cuts where the
    distribution loses least (Kullback and Leibler), percentile off 0.001 % of the values; both by
    the settings that ONNX Runtime has, and in a multiple of the time.

    Raises:
        ExportError: as measure_ranges, and where ONNX Runtime cannot calibrate the model.
    """
    images = 0

    def counted() -> Iterable[Batch]:
        nonlocal images
        for batch in batches:
            images += len(batch)
            yield batch

    if method == "minmax":
        return measure_ranges(model, batches, ops)
    with quantising(f"the {stage_of(model)} model"):
        return _clipped(model, counted(), ops, method), images


def _clipped(
    model: onnx.ModelProto, batches: Iterable[Batch], ops: Collection[str], method: str
) -> Ranges:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, calibrate

    class One(CalibrationDataReader):  # type: ignore[misc]
        """A batch at a time: the calibrator holds every tensor of all that a reader gives."""

        def __init__(self, feed: dict[str, Any]) -> None:
            self._feeds = iter([feed])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory(prefix="pillsnap-") as folder:
        path = Path(folder, "model.onnx")
        onnx.save(tidied(model), path)
        calibrator = calibrate.create_calibrator(
            path,
            sorted(ops),
            str(path.with_name("augmented.onnx")),
            getattr(calibrate.CalibrationMethod, method.capitalize()),
        )
        seen = False
        for batch in batches:
            calibrator.collect_data(One(fed(calibrator.infer_session, batch)))
            seen = True
        if not seen:
            raise ExportError(
                "there is no image to calibrate INT8 on",
                hint="give some, or use --int8-method dynamic",
            )
        found = calibrator.compute_data()
    return {name: (item.lowest, item.highest) for name, item in found.items()}
