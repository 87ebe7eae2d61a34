"""Where results go: JSON lines on a stream, a .jsonl or .csv file, photos with boxes drawn."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pillsnap.core.errors import ConfigError, ImageError
from pillsnap.core.files import make_folder, replace_atomic
from pillsnap.core.printable import printable, printable_json
from pillsnap.pipeline.twostage import Result

Write = Callable[[Result], None]

SUFFIXES = (".jsonl", ".csv")
CSV_COLUMNS = (
    *("image", "error", "box", "x1", "y1", "x2", "y2", "box_confidence"),
    *("class_index", "code", "edi_code", "edi_reason", "confidence", "truncated"),
)
_PILL = ("class_index", "code", "edi_code", "edi_reason", "confidence")
_COLOUR = (255, 64, 0)
_FORMULA = re.compile(r"(^|;)(?=[\s\"']*[=+\-@\uff1d\uff0b\uff0d\uff20])")


@contextmanager
def open_results(output: Path) -> Iterator[Write]:
    """What each result is handed to for a file that require_format takes, which is whole at the
    end; raises PillsnapError where it cannot be written."""
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with replace_atomic(output) as temp, temp.open("w", **how) as file:
        if output.suffix == ".jsonl":
            yield lambda result: print(json_line(result), file=file)
        else:
            table = csv.DictWriter(file, CSV_COLUMNS, restval="", lineterminator="\n")
            table.writeheader()
            yield lambda result: table.writerows(
                {name: _cell(value) for name, value in row.items()} for row in csv_rows(result)
            )


def require_format(output: Path) -> None:
    """Raises ConfigError where the suffix of a file of results is neither .jsonl nor .csv."""
    if output.suffix not in SUFFIXES:
        raise ConfigError(
            "results are written in two formats",
            where="--output",
            got=output,
            expected=f"a name that ends in {' or '.join(SUFFIXES)}",
        )


def json_line(result: Result) -> str:
    """A result as one line of JSON."""
    return printable_json(json.dumps(result, ensure_ascii=False, allow_nan=False))


def csv_rows(result: Result) -> list[Result]:
    """A result as rows of CSV_COLUMNS: one for each box, and one where there is none."""
    image = {"image": result["image"], "error": result.get("error", "")}
    if "boxes" not in result:
        return [{**image, **_of_pill(result)}]
    image["truncated"] = "true" if result.get("truncated") else "false"
    rows = [
        {
            **image,
            "box": number,
            **dict(zip(("x1", "y1", "x2", "y2"), box["xyxy"], strict=True)),
            "box_confidence": box["confidence"],
            **_of_pill(box.get("pill", {})),
        }
        for number, box in enumerate(result["boxes"])
    ]
    return rows or [image]


def name_drawn(paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where the drawing of each photo belongs: as the photo below the folder that all share, ending
    in .png. No two are one file, and none is a photo's own."""
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    taken = {Path(os.path.realpath(path.parent), path.name) for path in paths}
    found = {}
    # Photos that end so keep their names, whichever others there are.
    for path in sorted(paths, key=lambda path: path.suffix.lower() != ".png"):
        place = Path(os.path.realpath(folder)) / path.absolute().relative_to(shared)
        while place in taken or place.suffix.lower() != ".png":
            place = place.with_name(f"{place.name}.png")
        taken.add(place)
        found[path] = place
    return found


def save_drawn(image: NDArray[np.uint8], result: Result, path: Path) -> None:
    """Write a photo as PNG with its boxes and codes drawn; raises ImageError where that fails."""
    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    width = max(2, max(image.shape[:2]) // 300)
    for box in result.get("boxes", ()):
        x1, y1, x2, y2 = box["xyxy"]
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=_COLOUR, width=width)
        pen.text((x1 + width, y1 + width), _label(box.get("pill", box)), fill=_COLOUR)
    if "boxes" not in result:
        pen.text((width, width), _label(result), fill=_COLOUR)
    make_folder(path.parent)
    with replace_atomic(path) as temp:
        try:
            drawn.save(temp, format="PNG")
        except ValueError as error:
            raise ImageError("the drawn photo cannot be written", where=path, got=error) from error


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that starts one gets a quote before it,
    also behind the separator that spreadsheets split at in half of the world."""
    if not isinstance(value, str):
        return value
    return _FORMULA.sub(r"\1'", printable(value))


def _of_pill(pill: Result) -> Result:
    return {key: "" if pill[key] is None else pill[key] for key in _PILL if key in pill}


def _label(pill: Result) -> str:
    name = pill.get("code") or f"class {pill.get('class_index', pill.get('class_id'))}"
    return f"{name} {pill['confidence']:.2f}"
