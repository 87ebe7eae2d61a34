"""A report as its page shows it: what the template is filled with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pillsnap.compare.certify import Certified, in_words, upper_bound
from pillsnap.compare.drift import limit_of
from pillsnap.compare.result import SEVERITY
from pillsnap.compare.tasks import task_of
from pillsnap.config.figures import EXACTNESS, Figure
from pillsnap.config.tolerances import Tolerances
from pillsnap.report.evidence import NO_RECORDS, Evidence
from pillsnap.report.findings import diagnosis_texts
from pillsnap.report.page.charts import Chart, depth_curve
from pillsnap.report.page.columns import Part, boxes_of, confidences, error_histograms
from pillsnap.report.page.deltas import Delta, map_deltas
from pillsnap.report.page.samples import Shown, worst_samples
from pillsnap.report.page.tradeoff import Tradeoff, view_tradeoff
from pillsnap.report.rows import circumstances
from pillsnap.report.table import explanations

# Samples that a page shows, of all its cells, with some 30 kB each; and of a cell.
MOST_SHOWN, SHOWN = 40, 5

# As the report lists what is null in its place.
_NOT_FINITE = {name: float(name) for name in ("nan", "inf", "-inf")}

_WORDS = {
    "equivalent": "The candidate answers as the reference does, but for numeric noise.",
    "within_tolerance": "The candidate drifts from the reference, and every figure holds its "
    "tolerance.",
    "breach": "The candidate does not answer as the reference does: {} outside the tolerances.",
    "inconclusive": "Nothing can be said of {}: not measured whole, or its reference proves "
    "nothing.",
}


@dataclass(frozen=True)
class Row:
    """A figure against its tolerance.

    Attributes:
        part: value over tolerance, at most 1; None where it is not judged.
        certified: what the sample says of it, in words.
    """

    label: str
    meaning: str
    value: str
    limit: str
    part: float | None
    breached: bool
    certified: str = ""
    exact: bool = False


@dataclass
class CellView:
    """A cell of the report and what is drawn of it."""

    cell: Mapping[str, Any]
    rows: list[Row]
    why: list[str]
    notes: list[str]
    charts: list[Chart] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    flips: list[tuple[str, int, int, float | None]] = field(default_factory=list)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    deltas: dict[str, list[Delta]] = field(default_factory=dict)
    tradeoff: Tradeoff | None = None

    @property
    def tightest(self) -> Row | None:
        """The figure that is nearest to its tolerance, or furthest beyond; exactness has a column
        of its own."""
        judged = [row for row in self.rows if row.part is not None and not row.exact]
        return max(judged, key=lambda row: (row.breached, row.part), default=None)

    @property
    def exactness(self) -> str:
        return ", ".join(row.value for row in self.rows if row.exact)

    @property
    def certified(self) -> list[str]:
        return [row.certified for row in self.rows if row.certified]


def short(value: float) -> str:
    """Two digits, such as 2.4e-07, and 1,200 where that has no exponent."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.2g}"


def verdict_in_words(report: Mapping[str, Any]) -> str:
    gate, cells = report["gate"], report["cells"]
    if gate["verdict"] is None:
        return "Nothing was measured."
    failed = [cell for cell in cells if cell["verdict"] == gate["verdict"]]
    count = max(1, len(failed) or len(gate["unmeasured"]))
    lie = f"{count} of {len(cells)} cell{'s' * (len(cells) > 1)}"
    lie += {"breach": " lies" if count == 1 else " lie"}.get(gate["verdict"], "")
    return _WORDS[gate["verdict"]].format(lie)


def view_cells(report: Mapping[str, Any], evidence: Evidence) -> list[CellView]:
    """Every cell, those that fare worst first."""
    most = min(SHOWN, max(1, MOST_SHOWN // max(1, len(report["cells"]))))
    views = []
    for index, cell in enumerate(report["cells"]):
        non_finite = {
            place.removeprefix(f"cells[{index}].metrics."): value
            for place, value in report["non_finite"].items()
        }
        why = [cell["reason"] or "", *explanations(cell), *diagnosis_texts(cell)]
        view = CellView(
            cell,
            _rows(cell, non_finite),
            [text for text in why if text],
            [text for text in circumstances(cell) if text],
            tradeoff=view_tradeoff(cell),
        )
        _draw(view, report, evidence, most if index < MOST_SHOWN else 0)
        views.append(view)
    return sorted(views, key=lambda view: -SEVERITY.index(view.cell["verdict"]))


def _draw(view: CellView, report: Mapping[str, Any], evidence: Evidence, most: int) -> None:
    """What the records, as far as they are there, and the diagnosis show."""
    cell, metrics = view.cell, view.cell["metrics"]
    nms, seed = report["stages"][cell["stage"]]["postprocess"]["nms"], report["provenance"]["seed"]
    records = evidence.records(cell)
    if records is not None:
        try:
            view.charts += error_histograms(cell, records)
            sure = confidences(records)
            view.charts += [sure] if sure is not None else []
            boxes = boxes_of(records)
            if boxes is not None:
                view.charts.append(boxes[0])
                view.parts = {"class": boxes[1], "size": boxes[2]}
                view.deltas = map_deltas(records, max_detections=nms["max_detections"], seed=seed)
            view.shown = worst_samples(cell, records, evidence, most)
        except NO_RECORDS as error:
            view.notes.append(f"the records of this cell cannot be drawn: {error}")
    else:
        view.notes.append("without pictures: the records of this cell are not there (any more)")
    if view.shown and not any(sample.image for sample in view.shown):
        view.notes.append("without images: none is where it was, with the bytes it had")
    found = cell["diagnosis"]
    curve = depth_curve(found["layers"]) if found is not None and found["layers"] else None
    view.charts += [curve] if curve is not None else []
    for row in metrics.get("worst_classes", ()):
        name = row["class_name"] or f"class {row['class_index']}"
        bound = upper_bound(row["flips"], row["samples"])
        view.flips.append((name, row["samples"], row["flips"], bound))


def _rows(cell: Mapping[str, Any], non_finite: Mapping[str, str]) -> list[Row]:
    """Every figure that is there, and whatever else breaches."""
    metrics, tolerances = cell["metrics"], Tolerances(**cell["tolerances"])
    breached = {breach["figure"] for breach in cell["breaches"]}
    figures = task_of(cell["stage"]).figures
    rows = []
    for figure in figures:
        value = _NOT_FINITE.get(non_finite.get(figure.name, ""), metrics.get(figure.name))
        if value is not None:
            limit = limit_of(figure, tolerances, metrics)
            rows.append(_row(figure, value, limit, cell, figure.name in breached))
    known = {figure.name for figure in figures}
    for breach in cell["breaches"]:
        if breach["figure"] not in known:
            name, value, limit = breach["figure"], breach["value"], breach["limit"]
            shown = "not finite" if value is None else short(value)
            rows.append(Row(name, breach["where"], shown, short(limit), 1.0, True))
    return rows


def _row(
    figure: Figure, value: float, limit: float | None, cell: Mapping[str, Any], breached: bool
) -> Row:
    found, exact = cell["certified"].get(figure.name), figure.limited_by == EXACTNESS
    held = max(0.0, figure.held(value))
    part = None if limit is None else min(1.0, held / limit) if limit else float(held > 0)
    return Row(
        figure.name.replace("_", " ") if exact else figure.label or figure.name,
        figure.meaning,
        f"{'+' if figure.loss and value > 0 else ''}{short(value)}",
        "" if limit is None else f"{'-' if figure.loss else ''}{short(limit)}",
        part,
        breached,
        "" if found is None else in_words(figure.name, Certified(**found)),
        exact,
    )
