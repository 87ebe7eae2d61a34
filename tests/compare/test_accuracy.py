"""What is known of a trained model, and when its reference falls short of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pillsnap.compare.accuracy import MAP, TOP1, expected_accuracy, measure_accuracy, shortfall
from pillsnap.compare.figures.bootstrap import upper_map
from pillsnap.compare.figures.coco import evaluate
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config, Nms, Paths, Postprocess
from pillsnap.engines.torch.trainer import recorded_map, recorded_top1

CONFIG = Config(Paths(Path("exp")))


def cell(stage: str = "classification", mode: Any = "smoke", hard: bool = False) -> Cell:
    return Cell(stage, "onnx", "auto", "fp32", mode, hard)


def config(conf_threshold: float = 0.3, **expected: float) -> Config:
    compare = replace(CONFIG.compare, **expected)
    post = Postprocess(Nms(conf_threshold=conf_threshold))
    return replace(CONFIG, export=replace(CONFIG.export, compare=compare, postprocess=post))


def top1(right: int, count: int) -> dict[str, Any]:
    return {"reference_top1": right / count, "labelled_distinct_samples": count}


def maps(found: float, upper: float | None) -> dict[str, Any]:
    return {"reference_map_0_5_0_95": found, "reference_map_0_5_0_95_upper": upper}


@pytest.mark.parametrize(
    ("right", "count", "expected", "short"),
    [
        (14, 24, 0.95, True),  # a wrong mean: at most 0.76
        (23, 24, 0.96, False),
        (21, 24, 0.96, False),  # 24 samples do not tell 0.88 from 0.96
        (210, 240, 0.96, True),  # 240 do
        (0, 1, 0.5, False),
        (24, 24, 1.0, False),
    ],
)
def test_a_top1_falls_short_by_more_than_its_sample_can_err(
    right: int, count: int, expected: float, short: bool
) -> None:
    settings = config(expected_top1=expected)
    found = measure_accuracy(top1(right, count), TOP1, cell(), settings, None)
    assert (found.short, found.source) == (short, "config")
    reason = shortfall(found, TOP1)
    assert (reason is not None) is short
    if reason:
        assert "mean" in reason and "class_map" in reason and f"config expects {expected}" in reason


def test_what_config_expects_wins_over_what_training_recorded() -> None:
    assert expected_accuracy(config(expected_top1=0.7), TOP1, 0.9) == (0.7, "config")
    assert expected_accuracy(config(), TOP1, 0.9) == (0.9, "training")
    assert expected_accuracy(config(expected_top1=0.0), TOP1, 0.9) is None
    for nothing in (None, 0.0, 7.0, "0.9", [0.9], float("nan")):
        assert expected_accuracy(config(), TOP1, nothing) is None


def test_a_recorded_top1_has_something_to_spare_and_an_expected_one_has_not() -> None:
    found = top1(900, 1000)  # at most 0.915
    assert measure_accuracy(found, TOP1, cell(), config(), 0.93).short is False
    assert measure_accuracy(found, TOP1, cell(), config(expected_top1=0.93), None).short is True
    assert measure_accuracy(found, TOP1, cell(), config(), 0.98).short is True


def test_what_cannot_be_compared_fairly_is_shown_and_not_judged() -> None:
    low = top1(5, 100)
    assert "coverage" in str(
        measure_accuracy(low, TOP1, cell(mode="coverage"), config(), 0.9).unjudged
    )
    strict = config(expected_top1=0.9)
    assert measure_accuracy(low, TOP1, cell(mode="coverage"), strict, None).short is True
    assert "hard" in str(measure_accuracy(low, TOP1, cell(hard=True), strict, None).unjudged)
    scenes = cell("detection")
    assert "0.3" in str(measure_accuracy(maps(0.1, 0.2), MAP, scenes, config(), 0.8).unjudged)
    assert measure_accuracy(maps(0.1, 0.2), MAP, scenes, config(0.001), 0.8).short is True
    known = config(expected_map=0.8)
    assert measure_accuracy(maps(0.1, 0.2), MAP, scenes, known, None).short is True
    few = measure_accuracy(maps(0.1, None), MAP, scenes, known, None)
    assert (few.short, few.unjudged) == (None, "fewer than 20 labelled images")


def test_without_labels_or_knowledge_nothing_is_said() -> None:
    nothing = {"reference_top1": None, "labelled_samples": 0}
    assert measure_accuracy(nothing, TOP1, cell(), config(expected_top1=0.9), None).short is None
    assert measure_accuracy(top1(1, 9), TOP1, cell(), config(), None).expected is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"metric": 91.5, "args": {"eval_metric": "top1"}}, 0.915),
        ({"metric": np.float64(91.5), "args": {"eval_metric": "top1"}}, 0.915),
        ({"metric": 0.3, "args": {"eval_metric": "loss"}}, None),
        ({"metric": 91.5, "args": {}}, None),
        ({"metric": 91.5}, None),
        ({"metric": float("nan"), "args": {"eval_metric": "top1"}}, None),
        ({"metric": "91", "args": ["top1"]}, None),
        ({"metric": 910.0, "args": {"eval_metric": "top1"}}, None),
        (None, None),
    ],
)
def test_the_top1_that_timms_trainer_recorded(content: object, expected: float | None) -> None:
    assert recorded_top1(content) == expected


def test_the_map_that_ultralytics_recorded() -> None:
    metrics = {"metrics/mAP50(B)": 0.9, "metrics/mAP50-95(B)": 0.7}
    assert recorded_map({"train_metrics": metrics}) == 0.7
    for nothing in ({}, None, {"metrics/mAP50-95(B)": 0.0}, {"metrics/mAP50-95(B)": "x"}, []):
        assert recorded_map({"train_metrics": nothing}) is None
    assert recorded_map([]) is None


def scenes(count: int, found: int) -> Any:
    """`count` images of one box, of which `found` are found exactly."""
    box = np.array([[10.0, 10.0, 50.0, 50.0]])
    truth = [np.column_stack([box, [0.0]])] * count
    boxes = [
        np.column_stack([box, [0.9], [0.0]]) if index < found else np.zeros((0, 6))
        for index in range(count)
    ]
    evaluation = evaluate(truth, boxes, max_detections=10)
    assert evaluation is not None
    return evaluation


def test_the_bound_of_an_map_covers_what_the_images_leave_open() -> None:
    half, apart = scenes(40, 20), np.arange(40)
    upper = upper_map(half, images=apart, seed=0)
    assert upper is not None and 0.55 < upper < 0.75  # 0.5 and 1.64 times 0.08 of it
    assert upper == upper_map(half, images=apart, seed=0)
    assert upper_map(scenes(40, 40), images=apart, seed=0) == pytest.approx(1)
    assert upper_map(scenes(40, 0), images=apart, seed=0) == 0
    assert upper_map(scenes(19, 10), images=np.arange(19), seed=0) is None
    # As many copies of 19 images are 19 images.
    assert upper_map(half, images=apart % 19, seed=0) is None
