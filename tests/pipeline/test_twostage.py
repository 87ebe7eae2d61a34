"""Crops, codes, inputs and result files, and the pipeline over models that are plain functions."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pillsnap.core.errors import ConfigError, DataError, EngineError
from pillsnap.infer.inputs import expand_braces, find_inputs
from pillsnap.infer.outputs import json_line, open_results, require_format, save_drawn
from pillsnap.pipeline.codes import ClassCodes
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.nms import suppress_boxes
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from pillsnap.pipeline.twostage import Pipeline, Stage


def image(height: int = 40, width: int = 60) -> np.ndarray[Any, Any]:
    """Each pixel says where it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((10, 5, 20, 15), 0.0, (5, 15, 10, 20)),
        ((10.2, 5.8, 19.1, 14.2), 0.0, (5, 15, 10, 20)),
        ((10, 5, 20, 15), 0.1, (4, 16, 9, 21)),
        ((0, 0, 60, 40), 0.5, (0, 40, 0, 60)),
        ((55, 35, 60, 40), 1.0, (30, 40, 50, 60)),
        ((10, 10, 10, 10), 0.5, (10, 11, 10, 11)),
        ((60, 40, 60, 40), 0.1, (39, 40, 59, 60)),
        ((20, 15, 10, 5), 0.1, (15, 16, 20, 21)),
    ],
)
def test_crops(box: tuple[float, ...], margin: float, expected: tuple[int, ...]) -> None:
    top, bottom, left, right = expected
    crop = crop_box(image(), box, margin)
    assert crop.shape == (bottom - top, right - left, 3)
    assert (crop[0, 0, :2] == (top, left)).all()
    assert (crop[-1, -1, :2] == (bottom - 1, right - 1)).all()


@given(st.tuples(*[st.floats(-1e6, 1e6)] * 4), st.floats(0, 2))
def test_no_crop_is_empty(box: tuple[float, ...], margin: float) -> None:
    crop = crop_box(image(), box, margin)
    assert 1 <= crop.shape[0] <= 40
    assert 1 <= crop.shape[1] <= 60


@pytest.mark.parametrize("turn", [False, True])
def test_a_crop_whose_sides_differ_out_of_measure_is_its_middle(turn: bool) -> None:
    strip = np.arange(2_003, dtype=np.uint16).astype(np.uint8)[None, :, None].repeat(3, axis=2)
    strip = strip.repeat(4, axis=0)
    found = crop_box(
        strip.transpose(1, 0, 2) if turn else strip,
        (0, 0, 1, 2_003) if turn else (0, 0, 2_003, 1),
        0.0,
    )
    found = found.transpose(1, 0, 2) if turn else found
    np.testing.assert_array_equal(found, strip[:1, 751:1_251])
    assert crop_box(strip, (0, 0, 2_000, 4), 0.0).shape == (4, 2_000, 3)


def test_codes_say_why_there_is_none() -> None:
    named = ClassCodes({0: "K-1", 1: "K-2"}, {"K-1": "641"})
    assert named.describe(0) == {"code": "K-1", "edi_code": "641", "edi_reason": None}
    reasons = [
        (named, 1, "edi_map has no entry for K-2"),
        (named, 2, "class_map has no code for class 2"),
        (ClassCodes({0: "K-1"}), 0, "no edi_map is configured"),
        (ClassCodes(None, {"K-1": "641"}), 0, "no class_map is configured"),
    ]
    for codes, index, reason in reasons:
        found = codes.describe(index)
        assert (found["edi_code"], found["edi_reason"]) == (None, reason)


def logits_of(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two classes, by whether a crop is mostly red."""
    red = batch.mean(axis=(2, 3))
    return np.stack([red[:, 0], red[:, 2]], axis=1).astype(np.float32) * 10


def boxes_of(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two boxes for every image: left half and right half of a square input."""
    side = batch.shape[-1]
    rows = [[0, 0, side / 2, side, 0.9, 0], [side / 2, 0, side, side, 0.8, 0]]
    return np.array([rows] * len(batch), np.float32)


def keep_all(rows: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], bool]:
    return np.arange(len(rows)), False


def pipeline(suppress: Any = keep_all, **changes: Stage | None) -> Pipeline:
    half = (0.0, 0.0, 0.0)
    classify = ClassifyTransform(8, half, (1.0, 1.0, 1.0), "bilinear", 1.0)
    stages = {
        "classification": Stage(logits_of, classify, {"version": "c"}),
        "detection": Stage(boxes_of, LetterboxTransform(32, 32), {"version": "d"}),
        **changes,
    }
    return Pipeline(
        stages={name: stage for name, stage in stages.items() if stage is not None},
        codes=ClassCodes({0: "red", 1: "blue"}, {"red": "1"}),
        suppress=suppress,
        batch_size=2,
    )


def halves(height: int, width: int) -> np.ndarray[Any, Any]:
    """Red on the left, blue on the right."""
    made = np.zeros((height, width, 3), np.uint8)
    made[:, : width // 2, 0] = 255
    made[:, width // 2 :, 2] = 255
    return made


def test_combo_names_each_crop_in_the_images_own_pixels() -> None:
    images = [halves(100, 100), halves(50, 50), halves(20, 20)]
    results = pipeline().run(images, "combo")
    for result, side in zip(results, (100, 50, 20), strict=True):
        assert [box["pill"]["code"] for box in result["boxes"]] == ["red", "blue"]
        assert result["boxes"][0]["xyxy"] == [0, 0, side / 2, side]
        assert result["boxes"][1]["xyxy"] == [side / 2, 0, side, side]
        assert [box["pill"]["edi_code"] for box in result["boxes"]] == ["1", None]
        assert result["models"] == {
            "detection": {"version": "d"},
            "classification": {"version": "c"},
        }


def test_single_does_not_need_a_detector_and_boxes_no_classifier() -> None:
    (result,) = pipeline(detection=None).run([halves(10, 4)[:, :2]], "single")
    assert (result["code"], set(result["models"])) == ("red", {"classification"})
    (result,) = pipeline(classification=None).run([halves(10, 10)], "boxes")
    assert [set(box) for box in result["boxes"]] == [{"xyxy", "confidence", "class_id"}] * 2
    assert pipeline().run([], "combo") == []


@pytest.mark.parametrize("stage", ["classification", "detection"])
def test_a_missing_model_is_an_error(stage: str) -> None:
    with pytest.raises(EngineError, match="none is loaded"):
        pipeline(**{stage: None}).run([halves(10, 10)], "combo")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("stage", "mode"),
    [
        ("classification", "single"),
        ("classification", "combo"),
        ("detection", "combo"),
        ("detection", "boxes"),
    ],
)
def test_values_that_are_not_finite_cost_only_the_photo_they_are_of(
    stage: str, mode: str, value: float
) -> None:
    """A whole photo, also where one of its pills alone is concerned."""
    whole = pipeline().stages[stage]

    def overflowing(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        output = whole.run(batch)
        output[batch[:, 1].max(axis=(1, 2)) > 0, ..., -1:] = value  # where there is green
        return output

    images = [halves(10, 10) for _ in range(5)]
    images[2][:, :5, 1] = 255
    expected = pipeline().run(images, mode)
    found = pipeline(**{stage: Stage(overflowing, whole.transform, whole.version)}).run(
        images, mode
    )
    expected[2] = {
        "mode": mode,
        "error": f"the {stage} model gave values that are not finite",
        "models": expected[2]["models"],
    }
    assert found == expected


def test_a_photo_with_more_pills_than_nms_may_keep_says_so() -> None:
    settings = {"conf_threshold": 0.5, "iou_threshold": 0.5, "class_agnostic": False}
    for most, expected in ((1, True), (2, False), (3, False)):
        limited = partial(suppress_boxes, max_detections=most, **settings)
        for mode in ("boxes", "combo"):
            (result,) = pipeline(suppress=limited).run([halves(10, 10)], mode)
            assert (len(result["boxes"]), result["truncated"]) == (min(most, 2), expected)


def test_no_batch_is_larger_than_asked() -> None:
    sizes = []

    def counting(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sizes.append(len(batch))
        return logits_of(batch)

    whole = pipeline().stages["classification"]
    pipeline(classification=Stage(counting, whole.transform, {})).run([halves(9, 9)] * 5, "combo")
    assert sizes == [2] * 5


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", ["a"]),
        ("a{b,c}d", ["abd", "acd"]),
        ("{a,b}{c,d}", ["ac", "ad", "bc", "bd"]),
        ("x{a,{b,c}}", ["xa", "xb", "xa", "xc"]),
        ("{a,}", ["a", ""]),
        ("{a}", ["{a}"]),
        ("{a,b", ["{a,b"]),
    ],
)
def test_braces(pattern: str, expected: list[str]) -> None:
    assert list(expand_braces(pattern)) == expected


def test_inputs(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/b/2.png", "a/b/c/3.jpg", "a/4.txt", "a/[5].jpg", "a/{6,7}.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(pattern: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in find_inputs(f"{tmp_path}/{pattern}")]

    assert found("a/**/[0-9].{jpg,png}") == ["a/1.jpg", "a/b/2.png", "a/b/c/3.jpg"]
    assert found("{a,a/b}/**/2.png") == ["a/b/2.png"]
    # A name that exists is no pattern.
    assert found("a/[5].jpg") == ["a/[5].jpg"]
    assert found("a/{6,7}.jpg") == ["a/{6,7}.jpg"]
    assert found("**/1.{JPG,png}") == ["a/1.jpg"]
    for nothing in ("a", "nowhere/*", "a/*.gif", "a/**/x\0"):
        with pytest.raises(DataError):
            found(nothing)
    with pytest.raises(DataError, match="too many"):
        found("{a,b}" * 20)


def test_a_suffix_matches_in_either_case(tmp_path: Path) -> None:
    for name in ("IMG_1.JPG", "IMG_2.jpg", "IMG_3.Jpg", "IMG_4.jp2", "IMG_5.JP2", "jpg"):
        (tmp_path / name).touch()
    names = [path.name for path in find_inputs(f"{tmp_path}/*.{{jpg,JPG,jP2}}")]
    assert names == ["IMG_1.JPG", "IMG_2.jpg", "IMG_3.Jpg", "IMG_4.jp2", "IMG_5.JP2"]


def test_brackets_and_braces_in_the_name_of_a_folder_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos [2024]/a.png", "{x,y}/[z]/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_inputs(f"{tmp_path}/photos [2024]/*.png")] == ["a.png"]
    monkeypatch.chdir(tmp_path)
    assert find_inputs("{x,y}/**/*.png") == [Path("{x,y}/[z]/b.png")]
    with pytest.raises(DataError, match=r"photos \[2024\] is a folder"):
        find_inputs("photos [2024]")


RESULTS: list[dict[str, Any]] = [
    {"image": "a.png", "code": "K", "class_index": 1, "confidence": 0.5, "edi_code": None},
    {"image": "b.png", "error": "this image cannot be read"},
    {"image": "c.png", "boxes": [], "truncated": False},
    {
        "image": "d,\n.png",
        "boxes": [
            {"xyxy": [1.0, 2.0, 3.0, 4.0], "confidence": 0.9, "pill": {"code": "K-1"}},
            {"xyxy": [5.0, 6.0, 7.0, 8.0], "confidence": 0.8},
        ],
        "truncated": True,
    },
]


def test_results_as_jsonl_and_csv(tmp_path: Path) -> None:
    for name in ("r.jsonl", "r.csv"):
        with open_results(tmp_path / name) as write:
            for result in RESULTS:
                write(result)
            assert not (tmp_path / name).exists()
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == RESULTS
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png", "b.png", "c.png", r"d,\n.png", r"d,\n.png"]
    assert rows[1]["error"] == "this image cannot be read"
    assert (rows[3]["code"], rows[3]["x2"], rows[4]["box"]) == ("K-1", "3.0", "1")
    assert [row["truncated"] for row in rows] == ["", "", "false", "true", "true"]


def test_a_broken_off_run_leaves_no_results(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError),
        open_results(tmp_path / "r.csv") as write,
    ):
        write(RESULTS[0])
        raise EngineError("broken")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"\.jsonl or \.csv"):
        require_format(tmp_path / "r.txt")


def test_names_that_are_no_unicode() -> None:
    assert json.loads(json_line({"image": "a\udcff"})) == {"image": "a\udcff"}


def test_drawn_boxes(tmp_path: Path) -> None:
    grey = np.full((60, 80, 3), 128, np.uint8)
    result = {
        "boxes": [
            {
                "xyxy": [10, 10, 50, 40],
                "confidence": 0.9,
                "pill": {"code": "K-1", "confidence": 0.8},
            }
        ]
    }
    save_drawn(grey, result, tmp_path / "deep" / "a.png")
    with Image.open(tmp_path / "deep" / "a.png") as drawn:
        pixels = np.asarray(drawn)
    assert (pixels[10, 20] == (255, 64, 0)).all()
    assert (pixels[25, 50] == (255, 64, 0)).all()
    assert (pixels[55, 70] == 128).all()
