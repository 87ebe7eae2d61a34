"""Which images INT8 is calibrated on: never one that is verified, whatever its name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.config.settings import CalibrationData, Config, Data, Export, Paths, Quantize
from pillsnap.core.errors import DataError, ExportError, ImageError, PillsnapError
from pillsnap.data.datasets import SINGLES
from pillsnap.export.quantize.calibration import (
    choose_calibration,
    choose_images,
    measure_ranges,
)
from pillsnap.pipeline.transforms import LetterboxTransform


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Twelve files of different content."""
    paths = [tmp_path / f"{index:02d}.png" for index in range(12)]
    for index, path in enumerate(paths):
        path.write_bytes(b"image %d" % index)
    return paths


def read(path: Path) -> np.ndarray:
    return np.full((3, 2, 2), path.read_bytes()[-1], np.float32)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_draw_is_disjoint_by_content(images: list[Path], tmp_path: Path) -> None:
    verified = {sha256(path) for path in images[:6]}
    # Copies of verified images under other names are verified images.
    copies = [tmp_path / f"copy-{path.name}" for path in images[:6]]
    for path, copy in zip(images, copies, strict=False):
        copy.write_bytes(path.read_bytes())
    drawn = choose_images([*copies, *images], read, verified=verified, count=6, seed=0)
    assert sorted(drawn.paths) == images[6:]


def test_copies_of_an_image_count_once(images: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(images[0].read_bytes())
    pair = [images[0], copy]
    with pytest.raises(DataError, match=r"got: +1 images"):
        choose_images(pair, read, verified=set(), count=2, seed=0)


def test_too_few_images_say_how_many_there_are(images: list[Path]) -> None:
    verified = {sha256(path) for path in images[:8]}
    with pytest.raises(DataError) as caught:
        choose_images(images, read, verified=verified, count=5, seed=0)
    text = str(caught.value)
    assert "where:    12 validation images, 8 of them verified" in text
    assert "got:      4 images that are not verified" in text
    assert "expected: 5" in text
    assert "--int8-method dynamic" in text
    assert "set data.calibration, set export.quantize.calibration_images to 4" in text


def test_too_few_images_of_data_calibration_are_not_laid_to_the_validation_data(
    images: list[Path], tmp_path: Path
) -> None:
    assert images
    export = Export(quantize=Quantize(calibration_images=100))
    data = Data(calibration=CalibrationData(single=tmp_path))
    config = Config(Paths(tmp_path), data=data, export=export)
    with pytest.raises(DataError) as caught:
        choose_calibration(config, SINGLES, LetterboxTransform(8, 8), ())
    text = str(caught.value)
    assert "data.calibration.single has too few images" in text and "validation" not in text
    assert "where:    12 images of data.calibration.single" in text
    assert "expected: 100 (export.quantize.calibration_images)" in text
    assert "add images, set export.quantize.calibration_images to 12, or take" in text


def test_draw_depends_on_the_seed_alone(images: list[Path]) -> None:
    draws = [choose_images(images, read, verified=(), count=4, seed=seed) for seed in (3, 3, 4)]
    assert draws[0].paths == draws[1].paths
    assert draws[0].sha256 == draws[1].sha256
    assert draws[0].paths != draws[2].paths
    assert draws[0].sha256 != draws[2].sha256


def test_hash_follows_the_content(images: list[Path]) -> None:
    before = choose_images(images, read, verified=(), count=12, seed=0)
    images[5].write_bytes(b"another")
    after = choose_images(images, read, verified=(), count=12, seed=0)
    assert before.paths == after.paths
    assert before.sha256 != after.sha256


def test_files_are_hashed_only_until_enough_are_found(images: list[Path]) -> None:
    drawn = choose_images(images, read, verified=(), count=3, seed=0).paths
    for path in set(images) - set(drawn):
        path.unlink()
    assert choose_images(images, read, verified=(), count=3, seed=0).paths == drawn


def test_file_that_is_gone_is_named(images: list[Path]) -> None:
    images[7].unlink()
    with pytest.raises(PillsnapError, match=r"07\.png"):
        choose_images(images, read, verified=(), count=12, seed=0)


def test_batches_are_read_one_at_a_time_and_skip_broken_images(images: list[Path]) -> None:
    opened: list[Path] = []

    def careful(path: Path) -> np.ndarray:
        opened.append(path)
        if path == images[1]:
            raise ImageError("damaged", where=path)
        return read(path)

    drawn = choose_images(images[:3], careful, verified=(), count=3, seed=0)
    assert opened == []
    batches = drawn.batches()
    assert next(batches).shape == (1, 3, 2, 2)
    assert len(opened) <= 2
    assert len(list(batches)) == 1
    assert sorted(opened) == images[:3]


def test_images_that_are_not_there_are_passed_over_while_enough_are(images: list[Path]) -> None:
    for path in images[:2]:
        path.unlink()
    drawn = choose_images(images, read, verified=(), count=10, seed=0)
    assert sorted(drawn.paths) == images[2:]
    with pytest.raises(DataError, match=r"10 images .*; 2 cannot be read, such as .*0[01]\.png"):
        choose_images(images, read, verified=(), count=11, seed=0)


def test_one_image_that_gives_nan_is_not_passed_over() -> None:
    """A range over the rest would look like any other."""
    weights = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "weights")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, 2, 2])
        for name, channels in (("input", 3), ("sums", 1))
    ]
    nodes = [
        helper.make_node("Sqrt", ["input"], ["roots"]),
        helper.make_node("Conv", ["roots", "weights"], ["sums"]),
    ]
    graph = helper.make_graph(nodes, "roots", ends[:1], ends[1:], [weights])
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    good = np.full((1, 3, 2, 2), 4, np.float32)
    ranges, _ = measure_ranges(model, [good], ["Conv"])
    assert ranges == {"roots": (2, 2), "sums": (6, 6)}
    for batches in ([-good, good], [good, -good]):
        with pytest.raises(ExportError, match="not finite") as caught:
            measure_ranges(model, batches, ["Conv"])
        assert "roots, sums" in str(caught.value)
