"""Grouping nodes by module, and the number that groups are ranked by."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillsnap.export.quantize.groups import group_nodes
from pillsnap.export.quantize.output_error import output_error

PATHS = [
    *(f"/model.0/conv/{op}" for op in ("Conv", "Relu")),
    *(f"/model.1/cv{branch}/conv/Conv" for branch in range(4)),
    "/model.1/Concat",
    "/decode/Concat",
]

names_of_nodes = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), unique=True, max_size=40
)


def test_modules_are_split_where_most_nodes_are() -> None:
    assert list(group_nodes(PATHS, 3)) == ["/model.0", "/model.1", "/decode"]
    finer = group_nodes(PATHS, 7)
    assert list(finer) == [
        "/model.0",
        *(f"/model.1/cv{branch}" for branch in range(4)),
        "/model.1/Concat",
        "/decode",
    ]
    assert finer["/model.0"] == ("/model.0/conv/Conv", "/model.0/conv/Relu")


def test_names_without_a_path_are_cut_into_runs() -> None:
    groups = group_nodes([f"node_conv_{index}" for index in range(10)], 3)
    assert [len(names) for names in groups.values()] == [3, 3, 4]
    assert next(iter(groups)) == "node_conv_0 ... node_conv_2"


def test_interleaved_modules_keep_the_order_of_the_graph() -> None:
    names = ["/b/0", "/a/0", "/b/1", "/a/1", "/a/2"]
    groups = group_nodes(names, 2)
    assert list(groups.values()) == [("/b/0", "/b/1"), ("/a/0", "/a/1", "/a/2")]
    # Neighbours that are joined stand in the graph's order, not in their modules'.
    assert list(group_nodes(names, 1).values()) == [tuple(names)]
    names = ["/a/0", "/b/0", "/c/0", "/b/1", "/c/1"]
    assert list(group_nodes(names, 2).values()) == [("/a/0",), tuple(names[1:])]


@given(names_of_nodes, st.integers(1, 50))
def test_groups_hold_every_node_once(names: list[str], most: int) -> None:
    groups = group_nodes(names, most)
    assert sorted(name for group in groups.values() for name in group) == sorted(names)
    assert len(groups) == min(most, len(names))
    places = {name: place for place, name in enumerate(names)}
    for group in groups.values():
        assert list(group) == sorted(group, key=lambda name: places[name])


def detections(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array([rows], np.float32)


def test_error_of_detections_looks_at_boxes_that_count() -> None:
    pill = (10.0, 10.0, 30.0, 30.0, 0.9, 0.0)
    background = (0.0, 0.0, 100.0, 100.0, 0.0, 0.0)
    reference = detections(pill, background)
    assert output_error(reference, reference) == 0.0
    moved_background = detections(pill, (50.0, 50.0, 150.0, 150.0, 0.0, 3.0))
    assert output_error(reference, moved_background) == 0.0
    # An edge of a box of 20 x 20 pixels that is off by 2 pixels: 4 / 400.
    moved_pill = detections((12.0, 10.0, 30.0, 30.0, 0.9, 0.0), background)
    assert output_error(reference, moved_pill) == pytest.approx(0.01)
    other_class = detections((10.0, 10.0, 30.0, 30.0, 0.9, 1.0), background)
    assert output_error(reference, other_class) == pytest.approx(1.0)
    no_score = detections((10.0, 10.0, 30.0, 30.0, 0.0, 0.0), background)
    assert output_error(reference, no_score) == pytest.approx(1.0)


def test_error_of_logits_is_relative_to_their_spread() -> None:
    reference = np.array([[1.0, 3.0], [5.0, 5.0]], np.float32)
    assert output_error(reference, reference + np.float32(7.0)) == 0.0  # softmax sees no shift
    # The first row is -1 and 1 about its mean, a power of 2; it grows by a half.
    assert output_error(reference, reference * np.float32(1.5)) == pytest.approx(0.25)
    assert output_error(reference * 0, reference) == 0.0  # no signal to compare with


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_error_of_broken_outputs_is_infinite(broken: float) -> None:
    reference = np.ones((2, 3), np.float32)
    assert output_error(reference, np.full((2, 3), broken, np.float32)) == math.inf
