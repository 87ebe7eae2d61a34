"""Files of other exporters in use: read by their layout, as the gate has read them."""

from __future__ import annotations

from dataclasses import dataclass

from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError
from pillsnap.core.logrecords import open_log
from pillsnap.engines import Engine
from pillsnap.engines.layouts import layouts_of
from pillsnap.engines.layouts.records import Outputs, Reading, TakesLayouts
from pillsnap.engines.torch.checkpoints import stage_transform
from pillsnap.export import Exported
from pillsnap.export.native import find_reading, noise
from pillsnap.export.suppression import other_thresholds
from pillsnap.report.index import ReportIndex
from pillsnap.report.standing import PASSING

log = open_log(__name__)


@dataclass(frozen=True)
class Foreign:
    """How a file is read.

    Attributes:
        final_above: of a detector that needs no NMS behind it, the score above which a row is a
            box; None for others.
    """

    reading: Reading
    final_above: float | None


def read_foreign(config: Config, stage: str, described: Exported, engine: Engine) -> Foreign:
    """Find the layout of a file, and have its engine read it so. One that a report has passed is
    read as it was there.

    Raises:
        WrongCandidate: no layout fits, or several do.
        EngineError: the file does not run, or its engine reads pillsnap's own files alone.
    """
    if not isinstance(engine, TakesLayouts):
        raise EngineError("this engine runs files of pillsnap's own alone", where=described.path)
    size = stage_transform(config, stage).input_size
    outputs = engine.outputs(noise(size))
    reading = _judged(config, stage, described, outputs)
    if reading is None:
        classes = getattr(config, stage).num_classes
        reading, _ = find_reading(described, stage, lambda _: outputs, classes=classes, size=size)
    engine.read_by(reading)
    inside = described.suppression if reading.layout.compared == "boxes" else None
    if inside is not None and (others := other_thresholds(inside, config.nms)):
        log.warning("the NMS in %s keeps the boxes, by %s", described.path.name, others)
    return Foreign(reading, _final_above(config, reading))


def _final_above(config: Config, reading: Reading) -> float | None:
    """As the gate compares it: after an NMS inside whatever is given, of a one-to-one head what is
    above the threshold."""
    if reading.layout.compared == "boxes":
        return 0.0
    return config.nms.conf_threshold if reading.layout.compared == "one-to-one" else None


def _judged(config: Config, stage: str, described: Exported, outputs: Outputs) -> Reading | None:
    """How the newest report that passed a file has read these outputs; None without one."""
    reports = ReportIndex(config.out_dir / "reports")
    judged = reports.judgements(described.sha256)
    for each in sorted(judged, key=lambda each: each.started, reverse=True):
        same = each.weights == described.weights
        if same and each.verdict in PASSING and each.layout is not None:
            name, *names = each.layout
            layout = next((known for known in layouts_of(stage) if known.name == name), None)
            # Engines may name the outputs of a file otherwise.
            if layout is not None and outputs.keys() >= {*names}:
                return Reading(layout, tuple(names))
    return None
