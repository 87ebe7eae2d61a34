"""Which layers the cells of a run would have to keep in float, measured once its verdicts stand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pillsnap.compare.result import CellResult
from pillsnap.config.cells import Cell
from pillsnap.config.settings import CalibrationMethod
from pillsnap.core.errors import first_line
from pillsnap.diagnose.taps import module_path
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.timing import time_run
from pillsnap.export import export_onnx, read_with_weights
from pillsnap.export.quantize import Tell
from pillsnap.export.quantize.convert import open_trials
from pillsnap.export.quantize.histograms import find_ranges
from pillsnap.export.quantize.int8 import STATIC_OPS, quantize_static
from pillsnap.export.quantize.int8_openvino import outputs_of
from pillsnap.export.quantize.lists import write_lists
from pillsnap.export.quantize.recipe import Recipe
from pillsnap.export.quantize.sensitivity import Sensitivity, find_sensitivity
from pillsnap.export.quantize.trials import MARGIN, Loss, Trials
from pillsnap.gate.losses import FEW, Losses
from pillsnap.gate.run import GateRun

# Sets between none and the smallest that holds which the trade is shown of.
_STEPS = 6


def sensitive_cells(results: Sequence[CellResult]) -> list[Cell]:
    """The cells that analyse_cells looks at: those in lower precision."""
    cells = [result.cell for result in results]
    return [cell for cell in cells if cell.precision != "fp32" and not cell.hard]


def analyse_cells(
    run: GateRun, results: Sequence[CellResult], tell: Tell
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What report.models.sensitivity says of every one of sensitive_cells, by the cell's id, each
    as soon as it is found. What goes wrong is a problem of that cell, whatever it is."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for cell in sensitive_cells(results):
        # In INT8 engine and provider change nothing: it is measured with ONNX Runtime on the CPU.
        file = _file(cell)
        if file not in found:
            found[file] = _analyse(run, cell, tell)
        yield cell.id, found[file]


def _file(cell: Cell) -> tuple[str, ...]:
    where = () if cell.precision == "int8" else (cell.engine, cell.provider)
    return cell.stage, cell.precision, cell.mode, *where


def _analyse(run: GateRun, cell: Cell, tell: Tell) -> dict[str, Any]:
    started = time.perf_counter()

    def tell_of_cell(effort: str) -> None:
        tell(f"sensitivity of {cell.stage} in {cell.precision}, {effort}")

    try:
        facts = _Analysis(run, cell, tell_of_cell).as_dict()
    except Exception as error:  # the verdict stands whatever ONNX Runtime, onnx and the rest raise
        facts = {"problem": first_line(error)}
    return no_sensitivity() | facts | {"seconds": time.perf_counter() - started}


def no_sensitivity(problem: str | None = None) -> dict[str, Any]:
    """What the report says of a cell of which nothing was found."""
    empty = dict.fromkeys(("whole", "kept", "loss", "lists"))
    lists: dict[str, list[Any]] = {"layers": [], "trade": [], "calibrations": []}
    counts = {"margin": MARGIN, "images": 0, "all_images": 0, "measured": 0, "seconds": 0.0}
    return empty | lists | counts | {"problem": problem}


@dataclass(frozen=True)
class _Analysis:
    run: GateRun
    cell: Cell
    tell: Tell

    def as_dict(self) -> dict[str, Any]:
        run, cell = self.run, self.cell
        conversion = run.sides.conversion(cell, run.sides.reference(cell))
        calibration = conversion.calibration()
        losses = conversion.losses(calibration)
        criterion = losses.criterion(calibration, self.tell)
        settings, int8 = run.config.export.quantize, cell.precision == "int8"
        source = export_onnx(
            run.config, cell.stage, marker=run.run_dir / f"export-{cell.stage}.json"
        )
        recipe = Recipe(
            source,
            cell.precision,
            "auto" if int8 else "",
            calibration.sha256,
            settings.nodes_to_exclude if int8 else settings.fp16_nodes_to_exclude,
            criterion.name,
            settings.calibration_method,
        )
        trials, _ = open_trials(read_with_weights(source.path), recipe, calibration, criterion)
        found = find_sensitivity(trials, describe=True, tell=criterion.tell)
        facts = {
            "images": min(FEW, len(losses.samples)),
            "all_images": len(losses.samples),
            "layers": list(self._layers(trials, found)),
            "whole": _loss(found.whole),
            "trade": list(self._trade(trials, found, losses)),
            "measured": trials.measured,
        }
        if int8 and run.selection.compare_calibration:
            batches = list(calibration.batches())
            facts["calibrations"] = list(self._calibrations(trials, found, losses, batches))
        if found.kept is None:
            return facts | {"problem": "not even with all but one of the layers in float it holds"}
        return facts | {
            "kept": list(found.kept),
            "loss": None if found.loss is None else _loss(found.loss),
            "lists": self._lists(trials, found),
        }

    def _layers(self, trials: Trials, found: Sensitivity) -> Iterator[dict[str, Any]]:
        modules = _modules(trials)
        for layer in found.layers:
            yield {
                "name": layer.name,
                "nodes": list(layer.nodes),
                "modules": _distinct(modules[name] for name in layer.nodes),
                "lowered": _loss(layer.lowered),
                "kept": None if layer.kept is None else _loss(layer.kept),
            }

    def _lists(self, trials: Trials, found: Sensitivity) -> dict[str, str]:
        modules, chosen = _modules(trials), found.kept_nodes
        stay = {*trials.lowering.fixed, *chosen}
        model = trials.lowering.model
        nodes = [node.name for node in model.graph.node if node.name in stay]
        paths = _distinct(modules[name] for name in chosen)
        return write_lists(self.cell.precision, nodes, paths, outputs_of(model))

    def _trade(
        self, trials: Trials, found: Sensitivity, losses: Losses
    ) -> Iterator[dict[str, Any]]:
        """Size, speed and loss with no layer in float, with those of the smallest set that holds,
        the costliest first, and with all of them."""
        chosen = [layer for layer in found.by_cost if layer.name in (found.kept or ())]
        counts = sorted({len(chosen) * step // _STEPS for step in range(_STEPS + 1)})
        image = losses.first_image()
        for count in (*counts, len(found.layers)):
            whole = count == len(found.layers)
            nodes = [name for layer in chosen[:count] for name in layer.nodes]
            model = trials.lowering.model if whole else trials.lowering.build(nodes)
            data = model.SerializeToString()
            config = self.run.config
            session = open_session(data, losses.provider, self.run.threads, config.session_options)
            loss = losses.measure(model, False) if whole else trials.all(nodes)
            yield {
                "layers": count,
                "size_bytes": len(data),
                "latency_ms": 1000 * statistics.median(time_run(session.run, image)),
                "loss": _loss(loss),
            }

    def _calibrations(
        self, trials: Trials, found: Sensitivity, losses: Losses, batches: Sequence[Any]
    ) -> Iterator[dict[str, Any]]:
        """Of every way to find ranges, what --int8-method static loses, and what is lost with the
        smallest set that holds."""
        model, fixed = trials.lowering.model, trials.lowering.fixed
        for method in get_args(CalibrationMethod):
            started = time.perf_counter()
            ranges, _ = find_ranges(model, batches, STATIC_OPS, method)
            seconds = time.perf_counter() - started
            static = quantize_static(
                model, ranges, exclude=self.run.config.export.quantize.nodes_to_exclude
            )
            kept = None
            if found.kept is not None:
                kept = quantize_static(model, ranges, exclude={*fixed, *found.kept_nodes})
            yield {
                "method": method,
                "static": _loss(losses.measure(static, False)),
                "kept": None if kept is None else _loss(losses.measure(kept, False)),
                "seconds": seconds,
            }


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        "share": loss.share,
        "figure": loss.figure,
        "shares": dict(loss.shares),
        "error": loss.error,
    }


def _modules(trials: Trials) -> dict[str, str]:
    return {node.name: module_path(node) for node in trials.lowering.model.graph.node}


def _distinct(paths: Iterator[str]) -> list[str]:
    return [path for path in dict.fromkeys(paths) if path]
