"""Which layers a cell would have to keep in float, in words and as the terminal's tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pillsnap.config.figures import FIGURES
from pillsnap.core.printable import printable
from pillsnap.report.lines import WIDTH, one_line, wrap

_LABELS = {figure.name: figure.label for figure in FIGURES if figure.label}

# Layers that the table has, and those of the kept that are named.
_ROWS, _NAMED = 5, 8


def sensitivity_lines(cell: Mapping[str, Any]) -> list[str]:
    """The tables of a cell; none where --sensitivity did not ask for them."""
    found = cell["sensitivity"]
    if found is None:
        return []
    lines: list[str] = []
    rows: list[tuple[str, ...]]
    if found["layers"]:
        costly = costliest(found)[:_ROWS]
        rows = [
            (each["name"], output_error(each), in_words(each["lowered"]), in_words(each["kept"]))
            for each in costly
        ]
        title = f"costliest of {len(found['layers'])} layers"
        lines += _table((title, "output error", "lowered alone", "kept alone"), rows)
    if found["calibrations"]:
        rows = [
            (each["method"], in_words(each["static"]), in_words(each["kept"]))
            for each in found["calibrations"]
        ]
        lines += _table(("calibrated by", "method static", "with what to keep"), rows)
    return [*lines, *(line for text in conclusions(cell) for line in wrap(text, indent=2))]


def conclusions(cell: Mapping[str, Any]) -> Iterator[str]:
    """What is to be kept, what it comes to, or why it is not known."""
    found, precision = cell["sensitivity"], cell["precision"]
    if found["problem"] is not None:
        yield f"which layers to keep in float is not known: {one_line(found['problem'])}"
    if found["kept"] is None:
        return
    total, kept = len(found["layers"]), found["kept"]
    if kept:
        more = f" and {len(kept) - _NAMED} more" if len(kept) > _NAMED else ""
        yield f"keep in float {len(kept)} of {total} layers: {', '.join(kept[:_NAMED])}{more}"
        text = f"{in_words(found['loss'])} with them, {in_words(found['whole'])} without"
    else:
        yield f"no layer need be kept in float in {precision}"
        text = f"{in_words(found['whole'])} with all lowered"
    yield (
        f"part of a tolerance that is lost: {text}, on {found['all_images']} images that are not "
        f"verified (to hold, at most {found['margin']:g}); lists for other tools: the page, or "
        "cells[].sensitivity.lists"
    )


def costliest(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers, those that cost most by themselves first."""
    return sorted(found["layers"], key=lambda layer: -_number(layer["lowered"]["error"]))


def in_words(loss: Mapping[str, Any] | None) -> str:
    """Such as "0.31 (IoU p95)", a part of a tolerance and the figure that it is of."""
    if loss is None:
        return ""
    figure = _LABELS.get(loss["figure"], loss["figure"])
    return f"{_number(loss['share']):.2g}" + (f" ({figure})" if figure else "")


def output_error(layer: Mapping[str, Any]) -> str:
    """Of a layer that alone is lowered: tells layers apart where no figure does."""
    return f"{_number(layer['lowered']['error']):.1e}"


def _number(value: float | None) -> float:
    # A number that is not finite is null in the report.
    return math.inf if value is None else value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of what they hold, behind one of names that are cut on the left."""
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)][1:]
    name = max(16, WIDTH - 2 - sum(2 + each for each in wide))
    return [
        f"  {_end(first, name):{name}}"
        + "".join(f"  {text:>{each}}" for text, each in zip(rest, wide, strict=True))
        for first, *rest in (head, *rows)
    ]


def _end(name: str, most: int) -> str:
    shown = printable(name)
    return shown if len(shown) <= most else f"…{shown[1 - most :]}"
