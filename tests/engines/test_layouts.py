"""Outputs of files that others exported: told apart, and read as what pillsnap's own give."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pillsnap.core.errors import ConfigError, WrongCandidate
from pillsnap.engines.layouts import LAYOUTS, choose_layout, require_layout
from pillsnap.engines.layouts.records import Expected, Reading
from pillsnap.pipeline.layouts import READERS

SIZE = (64, 96)
BOXES = 96 + 24 + 6
FLAGS = ("transposed", "objectness", "normalised", "corners")
FILE = Path("file.onnx")


def expected(classes: int, boxes: int | None = BOXES, *, suppresses: bool = False) -> Expected:
    return Expected(classes, SIZE, boxes, suppresses)


def rows_of(classes: int) -> np.ndarray:
    """What a detector answers for two images: corners in pixels and scores, [2,BOXES,4+classes]."""
    generator = np.random.default_rng(classes)
    height, width = SIZE
    found = []
    for stride in (8, 16, 32):
        y, x = np.mgrid[: height // stride, : width // stride] * stride + stride / 2
        centre = np.stack([x, y], axis=-1).reshape(1, -1, 2).repeat(2, axis=0)
        reach = stride * generator.uniform(0.2, 2, centre.shape)
        scores = generator.uniform(0.001, 0.9, (*centre.shape[:2], classes))
        found.append(np.concatenate([centre - reach, centre + reach, scores], axis=-1))
    return np.concatenate(found, axis=1).astype(np.float32)


def detections(rows: np.ndarray) -> np.ndarray:
    scores = rows[..., 4:]
    found = [rows[..., :4], scores.max(-1)[..., None], scores.argmax(-1)[..., None]]
    return np.concatenate(found, axis=-1).astype(np.float32)


def written(rows: np.ndarray, flags: set[str]) -> np.ndarray:
    """Rows in another convention."""
    boxes, scores = rows[..., :4].copy(), rows[..., 4:]
    if "corners" not in flags:
        low, high = boxes[..., :2], boxes[..., 2:]
        boxes = np.concatenate([(low + high) / 2, high - low], axis=-1)
    if "normalised" in flags:
        boxes /= np.array([SIZE[1], SIZE[0]] * 2, np.float32)
    parts = [boxes, scores]
    if "objectness" in flags:
        factor = scores.max(axis=-1, keepdims=True) ** 0.5
        parts = [boxes, factor, scores / factor]
    output = np.concatenate(parts, axis=-1).astype(np.float32)
    return output if "transposed" in flags else output.swapaxes(1, 2)


def choose(outputs: dict[str, np.ndarray], of: Expected, asked: str | None = None) -> Reading:
    stage = "detection" if outputs["output0"].ndim > 2 else "classification"
    return choose_layout(stage, outputs, of, asked, FILE)


@pytest.mark.parametrize("classes", [1, 2, 3, 80])
@pytest.mark.parametrize("boxes", [BOXES, None])
def test_every_convention_of_raw_boxes_is_told_and_read(classes: int, boxes: int | None) -> None:
    rows = rows_of(classes)
    for chosen in product((False, True), repeat=4):
        flags = {name for name, given in zip(FLAGS, chosen, strict=True) if given}
        name = "-".join(["output0", *(flag for flag in FLAGS if flag in flags)])
        outputs = {"output0": written(rows, flags)}
        reading = choose(outputs, expected(classes, boxes))
        assert reading.layout.name == name
        read = reading.read(outputs, SIZE)
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, detections(rows), rtol=1e-5, atol=1e-4)


def test_half_precision_is_told_and_read() -> None:
    rows = rows_of(3)
    outputs = {"output0": written(rows, set()).astype(np.float16)}
    reading = choose(outputs, expected(3))
    assert reading.layout.name == "output0"
    read = reading.read(outputs, SIZE)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[..., :5], detections(rows)[..., :5], rtol=2e-2, atol=0.2)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_rows_of_pillsnap_s_own_form_stay_what_they_are(classes: int) -> None:
    outputs = {"output0": detections(rows_of(classes))}
    reading = choose(outputs, expected(classes))
    assert reading.layout.name == "detections"
    np.testing.assert_array_equal(reading.read(outputs, SIZE), outputs["output0"])


def queries(rows: np.ndarray) -> np.ndarray:
    """As ultralytics writes those of an RT-DETR: centre and size in 0..1, score, class."""
    found = detections(rows)
    low, high = found[..., :2], found[..., 2:4]
    size = np.array([SIZE[1], SIZE[0]] * 2, np.float32)
    boxes = np.concatenate([(low + high) / 2, high - low], axis=-1) / size
    return np.concatenate([boxes, found[..., 4:]], axis=-1).astype(np.float32)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_rows_of_queries_are_told_from_those_in_pixels(classes: int) -> None:
    rows = rows_of(classes)
    outputs = {"output0": queries(rows)}
    reading = choose(outputs, expected(classes, None))
    assert (reading.layout.name, reading.layout.compared) == ("queries", "one-to-one")
    np.testing.assert_allclose(reading.read(outputs, SIZE), detections(rows), rtol=1e-4, atol=1e-3)
    plain = choose({"output0": detections(rows)}, expected(classes, None))
    assert plain.layout.name == "detections"
    # A detector with cells, or a file with an NMS inside, gives no queries.
    for other in (expected(classes), expected(classes, None, suppresses=True)):
        try:
            found = choose(outputs, other).layout.name
        except WrongCandidate:
            continue
        assert found != "queries"


FAULTS: dict[str, Any] = {
    "x and y swapped": lambda rows: rows[..., [1, 0, 3, 2, 4, 5, 6]],
    "corners in another order": lambda rows: rows[..., [0, 2, 1, 3, 4, 5, 6]],
    "corner and size": lambda rows: np.concatenate(
        [rows[..., :2], rows[..., 2:4] - rows[..., :2], rows[..., 4:]], axis=-1
    ),
    "scaled by 2": lambda rows: rows * np.array([2, 2, 2, 2, 1, 1, 1], np.float32),
    "in percent": lambda rows: rows * np.array([100 / 96, 100 / 64] * 2 + [1, 1, 1], np.float32),
    "scores before the sigmoid": lambda rows: np.concatenate(
        [rows[..., :4], np.log(rows[..., 4:] / (1 - rows[..., 4:]))], axis=-1
    ),
    "a background class first": lambda rows: np.insert(rows, 4, 0.5, axis=-1),
    "classes before boxes": lambda rows: np.roll(rows, 3, axis=-1),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("flags", [(), ("corners",), ("transposed", "normalised")])
def test_what_is_read_wrongly_is_other_boxes_or_refused(fault: str, flags: tuple[str, ...]) -> None:
    rows = rows_of(3)
    outputs = {"output0": written(FAULTS[fault](rows), set(flags))}
    try:
        reading = choose(outputs, expected(3))
    except WrongCandidate as error:
        assert "output0 [2, " in str(error)
        return
    # Far beyond what any profile allows of a box or a score.
    apart = np.abs(reading.read(outputs, SIZE) - detections(rows))
    assert apart[..., :4].max() > 5 or apart[..., 4].max() > 0.1


def test_a_refusal_says_what_was_seen_and_which_layouts_there_are() -> None:
    outputs = {"output0": np.zeros((1, 7, BOXES + 1), np.float32), "more": np.zeros((1, 2))}
    with pytest.raises(WrongCandidate) as caught:
        choose(outputs, expected(3))
    text = " ".join(str(caught.value).split())
    for part in (
        f"output output0 [1, 7, {BOXES + 1}]; more [1, 2]",
        f"3 classes, {BOXES} boxes",
        "detections [N,boxes,6]",
        "output0[-transposed][-objectness][-normalised][-corners] [N,4+classes,boxes]",
        "nms [N,most,6]",
        "--layout detection=NAME",
    ):
        assert part in text


def test_an_option_chooses_only_what_the_file_leaves_open() -> None:
    rows = rows_of(3)
    outputs = {"output0": written(rows, set())}
    assert choose(outputs, expected(3), "output0").layout.name == "output0"
    for other in ("output0-normalised", "output0-transposed", "nms"):
        with pytest.raises(WrongCandidate, match=r"(?s)not of layout.*one of output0:output0"):
            choose(outputs, expected(3), other)
    # Scores beyond 1 are those of no layout: it may be one all the same.
    outputs["output0"][:, 4] += 1
    with pytest.raises(WrongCandidate, match="of no known layout"):
        choose(outputs, expected(3))
    assert choose(outputs, expected(3), "output0").layout.name == "output0"
    with pytest.raises(ConfigError, match=r"(?s)no such layout.*detection=yolo.*detections, outp"):
        require_layout("detection", "yolo")


def final_rows(most: int = 30) -> np.ndarray:
    rows = np.zeros((2, most, 6), np.float32)
    rows[0, :2] = [[4, 4, 20, 20, 0.9, 1], [30, 30, 50, 60, 0.4, 0]]
    return rows


def test_boxes_after_an_nms_are_told_by_their_number_and_its_operator() -> None:
    outputs = {"output0": final_rows()}
    reading = choose(outputs, expected(2, suppresses=True))
    assert (reading.layout.name, reading.layout.compared) == ("nms", "boxes")
    np.testing.assert_array_equal(reading.read(outputs, SIZE), outputs["output0"])
    for boxes, suppresses, one_to_one, name in (
        (BOXES, False, False, "end-to-end"),
        (None, True, False, "nms"),
        (None, False, True, "end-to-end"),
        (None, False, False, "detections"),
    ):
        of = Expected(2, SIZE, boxes, suppresses, one_to_one)
        assert choose(outputs, of).layout.name == name


def test_a_box_under_a_second_class_is_no_other_and_a_box_given_twice_is() -> None:
    one, low = [4, 4, 20, 20, 0.9, 1], [30, 30, 50, 60, 0.4, 0]
    second, wrong = [*one[:4], 0.8, 0], [*one[:4], np.nan, 0]

    def read(*rows: list[float]) -> np.ndarray:
        return READERS["end-to-end"]([np.array([rows], np.float32)], SIZE)[0]

    gone = np.zeros(6)
    np.testing.assert_allclose(read(second, low, one), [gone, low, one])
    np.testing.assert_allclose(read(one, one, low), [one, one, low])
    np.testing.assert_allclose(read(one, second, second), [one, gone, second])
    np.testing.assert_allclose(read(one, wrong), [one, wrong])


def test_the_four_outputs_of_efficient_nms_are_one_layout() -> None:
    rows = final_rows()
    rows[1] = 7  # beyond the count of 0
    outputs = {
        "num": np.array([[2], [0]], np.int32),
        "output0": rows[..., :4],
        "scores": rows[..., 4],
        "labels": rows[..., 5].astype(np.int32),
    }
    reading = choose(outputs, expected(8, suppresses=True))
    assert reading.names == ("num", "output0", "scores", "labels")
    np.testing.assert_array_equal(reading.read(outputs, SIZE), final_rows())


def test_logits_and_what_a_softmax_made_of_them_are_told_apart() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (2, 5)).astype(np.float32)
    powers = np.exp(logits)
    parts = powers / powers.sum(axis=1, keepdims=True)
    for values, name in (
        (logits, "logits"),
        (logits[:, :, None, None], "logits"),
        (parts, "probabilities"),
        (parts.astype(np.float16), "probabilities"),
        (np.log(parts), "log-probabilities"),
    ):
        outputs = {"features": np.zeros((2, 512), np.float32), "output0": values}
        reading = choose_layout("classification", outputs, expected(5, None), None, FILE)
        assert (reading.layout.name, reading.names) == (name, ("output0",))
        read = reading.read(outputs, SIZE)
        assert (read.shape, read.dtype) == ((2, 5), np.float32)
        shifted = read - read[:, :1] - (logits - logits[:, :1])
        assert np.abs(shifted).max() < (0.1 if values.dtype == np.float16 else 1e-4)


def test_logits_go_before_probabilities_and_two_of_a_kind_are_the_user_s_to_choose() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    parts = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert choose({"output0": parts, "raw": logits}, expected(5, None)).names == ("raw",)
    outputs = {"output0": logits, "other": 2 * logits}
    with pytest.raises(WrongCandidate, match=r"(?s)more than one.*logits:output0, logits:other"):
        choose(outputs, expected(5, None))
    assert choose(outputs, expected(5, None), "logits:other").names == ("other",)


def test_a_probability_of_zero_has_a_logarithm() -> None:
    outputs = {"output0": np.array([[1, 0, 0]], np.float32)}
    assert np.isfinite(choose(outputs, expected(3, None)).read(outputs, SIZE)).all()


def test_names_are_unique() -> None:
    names = [(layout.stage, layout.name) for layout in LAYOUTS]
    assert len(names) == len(set(names)) == 24
