"""The change of mAP by class and by size of box, as the page has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pillsnap.compare.records import ragged
from pillsnap.report.page.deltas import Delta, map_deltas

SMALL, LARGE = (10.0, 10.0, 30.0, 30.0), (100.0, 100.0, 300.0, 300.0)
# So large that its own size is another than that of what it finds.
BLOATED = (100.0, 100.0, 196.0, 196.0), (100.0, 100.0, 194.0, 194.0)


def found(*boxes: tuple[tuple[float, ...], int]) -> np.ndarray:
    return np.array([(*box, 0.9, index) for box, index in boxes], np.float32).reshape(-1, 6)


def deltas(
    truth: list[Any], ref: list[Any], cand: list[Any], contents: list[int] | None = None
) -> dict[str, dict[str, Delta]]:
    images = len(truth)
    labels = [np.array([(*box, index) for box, index in boxes]).reshape(-1, 5) for boxes in truth]
    content = np.zeros((images, 32), np.uint8)
    content[:, 0] = contents or range(images)
    columns = {
        "content": content,
        "labelled": np.ones(images, bool),
        **ragged("truth", labels, 5, np.float64),
        **ragged("ref_boxes", [found(*boxes) for boxes in ref], 6, np.float32),
        **ragged("cand_boxes", [found(*boxes) for boxes in cand], 6, np.float32),
    }
    parts = map_deltas(columns, max_detections=300, seed=0)
    return {of: {each.name: each for each in every} for of, every in parts.items()}


def test_what_is_lost_is_laid_to_its_class_and_its_size() -> None:
    both = [(SMALL, 0), (LARGE, 1)]
    parts = deltas([both] * 4, [both] * 4, [both, both, both, [(SMALL, 0)]])
    assert parts["class"].keys() == {"class 0", "class 1"}
    assert parts["size"].keys() == {"small (< 32² px)", "large"}
    for of, whole, lossy in (
        ("class", "class 0", "class 1"),
        ("size", "small (< 32² px)", "large"),
    ):
        kept, lost = parts[of][whole], parts[of][lossy]
        assert (kept.labelled, kept.reference, kept.delta, kept.upper) == (4, 1.0, 0.0, 0.0)
        # Three of four are found: recall reaches 76 of COCO's 101 points.
        assert lost.reference == 1.0 and lost.delta == pytest.approx(76 / 101 - 1)
        assert lost.upper is not None and 0.25 < lost.upper <= 1.0
    assert list(parts["class"]) == ["class 1", "class 0"]  # the largest loss first


def test_a_found_box_is_of_the_size_of_what_it_finds() -> None:
    medium, other = BLOATED
    parts = deltas([[(other, 0)]], [[(other, 0)]], [[((100, 100, 197, 197), 0)]])
    assert list(parts["size"]) == ["medium (< 96² px)"]
    assert parts["size"]["medium (< 96² px)"].candidate > 0.8
    assert deltas([[(medium, 0)]], [[]], [[]])["size"].keys() == {"large"}


def test_copies_count_once_and_without_labels_there_is_nothing() -> None:
    parts = deltas([[(SMALL, 0)]] * 3, [[(SMALL, 0)]] * 3, [[(SMALL, 0)]] * 3, [1, 1, 2])
    assert parts["class"]["class 0"].labelled == 2
    assert deltas([[]], [[(SMALL, 0)]], [[]]) == {}
    assert map_deltas({}, max_detections=300, seed=0) == {}
