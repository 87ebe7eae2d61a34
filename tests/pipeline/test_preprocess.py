"""Preprocessing against timm and ultralytics, bit for bit, and the way back from the letterbox."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from PIL import Image

from pillsnap.core.alternatives import ULTRALYTICS
from pillsnap.core.packages import installed_version
from pillsnap.pipeline.preprocess import (
    Pixels,
    Tensor,
    classify_tensor,
    letterbox_tensor,
    preprocess,
    unletterbox,
)
from pillsnap.pipeline.transforms import CROP_MODES, ClassifyTransform, Geometry, LetterboxTransform

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")

# Height and width: one pixel, odd and even, portrait and landscape, smaller and larger than the
# input, exactly the input, thinner than an input pixel.
SHAPES = [
    *((1, 1), (2, 3), (7, 5), (64, 64), (96, 96), (97, 96), (100, 75), (480, 640), (641, 479)),
    *((1, 90), (90, 1), (3, 200), (200, 3), (63, 127)),
]


def draw(height: int, width: int) -> Pixels:
    """Noise over a gradient, different in each channel and direction."""
    random = np.random.default_rng([height, width])
    ramp = np.linspace(0, 128, height)[:, None, None] + np.linspace(0, 64, width)[:, None]
    noise = random.integers(0, 64, (height, width, 3))
    return (ramp + noise).astype(np.uint8) + np.array([0, 20, 40], np.uint8)


@pytest.fixture(scope="module")
def create_transform() -> Callable[..., Any]:
    from timm.data import create_transform

    return create_transform


# Before, it rounds a thin side to nothing and fails, and scales boxes by the one unrounded ratio.
keeps_thin_sides = pytest.mark.skipif(
    Version(installed_version(ULTRALYTICS.distributions) or "0") < Version("8.4.183"),
    reason="ultralytics lets no side vanish from 8.4.183 on",
)


@pytest.fixture(scope="module")
def ultralytics(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_AUTOINSTALL", "false")
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        import ultralytics
        import ultralytics.data.augment
        import ultralytics.engine.predictor
        import ultralytics.utils.ops
    return ultralytics


def predictor_input(ultralytics: ModuleType, image: Pixels, height: int, width: int) -> Tensor:
    """What ultralytics feeds a model for an RGB image: letterboxed as BGR, then turned."""
    import torch

    letterbox = ultralytics.data.augment.LetterBox((height, width), auto=False, scaleup=True)
    boxed = letterbox(image=np.ascontiguousarray(image[..., ::-1]))

    class Predictor:
        device = torch.device("cpu")
        model = type("Model", (), {"fp16": False})

        def pre_transform(self, images: list[Pixels]) -> list[Pixels]:
            return images

    run = ultralytics.engine.predictor.BasePredictor.preprocess
    tensor: Tensor = run(Predictor(), [boxed])[0].numpy()
    return tensor


# Classification


def assert_like_timm(
    create_transform: Callable[..., Any], image: Pixels, transform: ClassifyTransform
) -> None:
    expected = create_transform(
        input_size=(3, transform.size, transform.size),
        is_training=False,
        interpolation=transform.interpolation,
        mean=transform.mean,
        std=transform.std,
        crop_pct=transform.crop_pct,
        crop_mode=transform.crop_mode,
    )(Image.fromarray(image)).numpy()
    tensor = classify_tensor(image, transform)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("crop_pct", [0.5, 0.875, 1.0])
def test_classifier_input_equals_timm(
    create_transform: Callable[..., Any], interpolation: str, crop_pct: float
) -> None:
    for (height, width), size in itertools.product(SHAPES, (1, 32, 95)):
        transform = ClassifyTransform(size, IMAGENET_MEAN, IMAGENET_STD, interpolation, crop_pct)
        assert_like_timm(create_transform, draw(height, width), transform)


@pytest.mark.parametrize("crop_mode", ["squash", "border"])
def test_every_crop_mode_of_timm_equals_timm(
    create_transform: Callable[..., Any], crop_mode: str
) -> None:
    # timm itself fails where the shorter side of a border falls below half a pixel.
    shapes = [shape for shape in SHAPES if crop_mode == "squash" or max(shape) < 32 * min(shape)]
    for (height, width), size, share in itertools.product(shapes, (32, 95), (0.5, 0.9, 1.0, 1.15)):
        transform = ClassifyTransform(
            size, IMAGENET_MEAN, IMAGENET_STD, "bicubic", share, crop_mode
        )
        assert_like_timm(create_transform, draw(height, width), transform)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_the_thinnest_image_has_an_input_in_every_crop_mode(crop_mode: str) -> None:
    for shape in ((1, 500), (500, 1)):
        transform = ClassifyTransform(8, IMAGENET_MEAN, IMAGENET_STD, "bilinear", 1.0, crop_mode)
        assert classify_tensor(draw(*shape), transform).shape == (3, 8, 8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    height=st.integers(10, 200),
    width=st.integers(10, 200),
    size=st.integers(20, 80),
    crop_pct=st.floats(0.2, 1.3),
    interpolation=st.sampled_from(FILTERS),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 1)] * 3),
    crop_mode=st.sampled_from(CROP_MODES),
)
def test_classifier_input_equals_timm_for_any_setting(
    create_transform: Callable[..., Any],
    height: int,
    width: int,
    size: int,
    crop_pct: float,
    interpolation: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    crop_mode: str,
) -> None:
    transform = ClassifyTransform(size, mean, std, interpolation, crop_pct, crop_mode)
    assert_like_timm(create_transform, draw(height, width), transform)


def test_views_are_read_in_their_own_order() -> None:
    image = draw(40, 60)
    transform = ClassifyTransform(32, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.9)
    box = LetterboxTransform(64, 64)
    for view in (image[::-1], image[:, ::-1], image[..., ::-1], image[::2, 1::3]):
        for setting in (transform, box):
            np.testing.assert_array_equal(
                preprocess(view, setting), preprocess(view.copy(), setting)
            )


def test_the_image_is_left_alone() -> None:
    image = draw(64, 64)
    image.setflags(write=False)
    before = image.copy()
    classify_tensor(image, ClassifyTransform(64, IMAGENET_MEAN, IMAGENET_STD, "bilinear", 1.0))
    letterbox_tensor(image, LetterboxTransform(64, 64))
    np.testing.assert_array_equal(image, before)


# Detection


@pytest.mark.parametrize(
    "size",
    [
        *((64, 64), (96, 96), (320, 320), (96, 160), (161, 95)),
        pytest.param((1, 1), marks=keeps_thin_sides),
    ],
)
def test_detector_input_equals_ultralytics(ultralytics: ModuleType, size: tuple[int, int]) -> None:
    for height, width in SHAPES:
        image = draw(height, width)
        tensor, geometry = letterbox_tensor(image, LetterboxTransform(*size))
        assert tensor.dtype == np.float32
        assert tensor.flags.c_contiguous
        np.testing.assert_array_equal(tensor, predictor_input(ultralytics, image, *size))
        assert (geometry.height, geometry.width) == (height, width)


@keeps_thin_sides
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_detector_input_equals_ultralytics_for_any_size(
    ultralytics: ModuleType, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    image = draw(*shape)
    tensor, _ = letterbox_tensor(image, LetterboxTransform(*size))
    np.testing.assert_array_equal(tensor, predictor_input(ultralytics, image, *size))


def test_padding_takes_the_value_asked_for() -> None:
    tensor, geometry = letterbox_tensor(draw(10, 20), LetterboxTransform(20, 20, pad_value=7))
    assert (geometry.left, geometry.top) == (0, 5)
    assert (tensor[:, [0, -1]] == np.float32(7) / np.float32(255)).all()


@keeps_thin_sides
@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
    size=st.tuples(st.integers(1, 1280), st.integers(1, 1280)),
    seed=st.integers(0, 2**32 - 1),
)
def test_boxes_go_back_as_in_ultralytics(
    ultralytics: ModuleType, shape: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    import torch

    geometry = geometry_of(shape, size)
    reach = np.array([*size[::-1], *size[::-1]])
    boxes = np.random.default_rng(seed).uniform(-0.3, 1.3, (8, 4)) * reach
    boxes = boxes.astype(np.float32)
    scale = ultralytics.utils.ops.scale_boxes
    expected = scale(size, torch.from_numpy(boxes.copy()), shape).numpy()
    found = unletterbox(boxes, geometry)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
    size=st.tuples(st.integers(32, 1280), st.integers(32, 1280)),
    corners=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
)
def test_unletterbox_undoes_the_letterbox(
    shape: tuple[int, int], size: tuple[int, int], corners: list[float]
) -> None:
    geometry = geometry_of(shape, size)
    height, width = shape
    # The picture fills the input between the paddings; nothing else is known of it here.
    filled_width, filled_height = size[1] - 2 * geometry.left, size[0] - 2 * geometry.top
    original = np.array(corners) * [width, height, width, height]
    # An odd pixel of padding lies on the far side, so that the far edge is known within one.
    fit = [max(round(side * geometry.ratio), 1) for side in (width, height)]
    assert 0 <= filled_width - fit[0] <= 1 and 0 <= filled_height - fit[1] <= 1
    there = np.array(corners) * (fit * 2) + [geometry.left, geometry.top] * 2
    back = unletterbox(there[None].astype(np.float32), geometry)[0]
    # float32 holds an input pixel to within 2**-13 up to 2048; the way back divides by the ratio.
    np.testing.assert_allclose(back, original, rtol=0, atol=1e-3 + 2**-13 / geometry.ratio)


def geometry_of(shape: tuple[int, int], size: tuple[int, int]) -> Geometry:
    """How an image of this shape is letterboxed into that size."""
    return letterbox_tensor(np.zeros((*shape, 3), np.uint8), LetterboxTransform(*size))[1]


@pytest.mark.parametrize("shape", [(120, 200), (200, 120), (333, 97), (40, 30)])
def test_a_drawn_box_is_found_where_it_was(shape: tuple[int, int]) -> None:
    height, width = shape
    x1, y1, x2, y2 = width // 5, height // 2, width // 2, height - 3
    image = np.zeros((*shape, 3), np.uint8)
    image[y1:y2, x1:x2] = (255, 0, 0)
    tensor, geometry = letterbox_tensor(image, LetterboxTransform(160, 128))
    rows, columns = np.nonzero((tensor[0] > 0.5) & (tensor[1] < 0.25))
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    back = unletterbox(seen, geometry)[0]
    np.testing.assert_allclose(back, [x1, y1, x2, y2], atol=1 / geometry.ratio + 0.5)


def test_boxes_are_clipped_to_the_image() -> None:
    _, geometry = letterbox_tensor(draw(50, 100), LetterboxTransform(64, 64))
    huge = np.float32(3e38)
    found = unletterbox(np.array([[-huge, -huge, huge, huge], [0, 0, 0, 0]], np.float32), geometry)
    np.testing.assert_array_equal(found, [[0, 0, 100, 50], [0, 0, 0, 0]])
    assert unletterbox(np.empty((0, 4), np.float32), geometry).shape == (0, 4)


# Dispatch and misuse


def test_preprocess_goes_by_the_transform() -> None:
    image = draw(30, 40)
    classify = ClassifyTransform(32, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.9)
    letterbox = LetterboxTransform(48, 64)
    np.testing.assert_array_equal(preprocess(image, classify), classify_tensor(image, classify))
    boxed, _ = letterbox_tensor(image, letterbox)
    assert boxed.shape == (3, 48, 64)
    np.testing.assert_array_equal(preprocess(image, letterbox), boxed)
    with pytest.raises(ValueError, match="type str"):
        preprocess(image, "letterbox")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
    ids=["grey", "alpha", "empty", "float"],
)
def test_only_rgb_bytes_are_images(image: Any) -> None:
    classify = ClassifyTransform(32, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.9)
    for transform in (classify, LetterboxTransform(32, 32)):
        with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
            preprocess(image, transform)


def test_no_array_is_resized_whose_sides_differ_out_of_measure() -> None:
    classify = ClassifyTransform(32, IMAGENET_MEAN, IMAGENET_STD, "bicubic", 0.9)
    for shape in ((20_000, 1, 3), (2, 1_001, 3)):
        with pytest.raises(ValueError, match="over 500 times the other"):
            classify_tensor(np.zeros(shape, np.uint8), classify)
    assert classify_tensor(np.zeros((500, 1, 3), np.uint8), classify).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size"),
        ({"mean": (0.5,)}, "3 values"),
        ({"std": (0.5, 0.0, 0.5)}, "above 0"),
        ({"interpolation": "linear"}, "'linear', not one of .*'bilinear'"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": 2.01}, "crop_pct"),
        ({"crop_mode": "random"}, "'random', not one of .*'squash'"),
        ({"mean": (127.5, 127.5, 127.5)}, "0 to 1"),
    ],
)
def test_a_classifier_transform_is_checked(change: dict[str, Any], message: str) -> None:
    good = {
        "size": 32,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "interpolation": "box",
        "crop_pct": 1.0,
    }
    ClassifyTransform(**good)
    with pytest.raises(ValueError, match=message):
        ClassifyTransform(**{**good, **change})


@pytest.mark.parametrize("values", [(0, 32), (32, 0), (32, 32, -1), (32, 32, 256)])
def test_a_letterbox_is_checked(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LetterboxTransform(*values)


def test_boxes_have_four_columns() -> None:
    with pytest.raises(ValueError, match=r"\[K, 4\]"):
        unletterbox(np.zeros((2, 6), np.float32), Geometry(1.0, 0, 0, 4, 4))
