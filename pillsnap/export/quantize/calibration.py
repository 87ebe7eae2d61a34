"""What static quantisation must know of real images: the range of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pillsnap.config.settings import Config
from pillsnap.core.errors import DataError, ExportError, ImageError, PillsnapError
from pillsnap.core.filesystems import RemoteError
from pillsnap.core.hashes import sha256_file, sha256_json
from pillsnap.data.calibration import read_calibration
from pillsnap.data.datasets import Source, read_dataset
from pillsnap.engines import Batch, Transform
from pillsnap.engines.onnxruntime.precision import element_types
from pillsnap.export.quantize.graph import tidied
from pillsnap.export.quantize.run_graph import opened
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.preprocess import preprocess

if TYPE_CHECKING:
    import onnx

Ranges = Mapping[str, tuple[np.float32, np.float32]]


Reader = Callable[[Path], Batch]
"""Reads an image as the model is fed it: float32 [3,H,W]; ImageError where it cannot."""


@dataclass(frozen=True)
class Calibration:
    """Images to calibrate on, none of which is verified afterwards.

    Attributes:
        paths: in the order they are fed.
        read: how each becomes an array.
        sha256: of the list of the files' own hashes, in hex.
    """

    paths: tuple[Path, ...]
    read: Reader
    sha256: str

    def batches(self) -> Iterator[Batch]:
        """One image at a time, [1,3,H,W]; those that cannot be read are left out."""
        for path in self.paths:
            try:
                yield self.read(path)[None]
            except ImageError:
                continue


def choose_calibration(
    config: Config, source: Source, transform: Transform, verified: Collection[str]
) -> Calibration:
    """Images that a task's INT8 file is calibrated on: the configured ones, or validation images.

    Those of which `verified` has the SHA-256 are not among them; DataError where too few are left.
    """
    key: str | None = f"data.calibration.{source.key}"
    paths = read_calibration(config, source)
    if paths is None:
        paths, key = [sample.path for sample in read_dataset(config, source).samples], None
    return choose_images(
        paths,
        lambda path: preprocess(read_image(path), transform),
        verified=verified,
        count=config.export.quantize.calibration_images,
        seed=config.compare.seed,
        key=key,
    )


def choose_images(
    paths: Sequence[Path],
    read: Reader,
    *,
    verified: Collection[str],
    count: int,
    seed: int,
    key: str | None = None,
) -> Calibration:
    """Draw calibration images that are not among the verified ones, by the content of the files.

    Files are hashed only until enough are found. Copies of a drawn image are not drawn again.

    Args:
        paths: candidates, in an order that is the same on every machine.
        read: see Calibration.
        verified: SHA-256 in hex of the bytes of every image that is verified.
        key: of the configuration, that names the paths; None where they are validation images.

    Raises:
        DataError: fewer than `count` are left that can be read; says how many there are.
    """
    order = np.random.default_rng(np.random.SeedSequence([seed])).permutation(len(paths))
    drawn: dict[str, Path] = {}
    missing: list[Path] = []
    for index in order:
        if len(drawn) == count:
            break
        try:
            digest = sha256_file(paths[index])
        except RemoteError:
            raise  # and the rest would be asked for in vain
        except PillsnapError:
            missing.append(paths[index])
            continue
        if digest not in verified:
            drawn.setdefault(digest, paths[index])
    if len(drawn) < count:
        raise _too_few(paths, verified, drawn, missing, count, key)
    return Calibration(tuple(drawn.values()), read, sha256_json(list(drawn)))


def _too_few(
    paths: Sequence[Path],
    verified: Collection[str],
    drawn: Collection[str],
    missing: Sequence[Path],
    count: int,
    key: str | None,
) -> DataError:
    got = f"{len(drawn)} images that are not verified"
    if missing:
        got += f"; {len(missing)} cannot be read, such as {missing[0]}"
    if key is not None:
        what = f"{key} has too few images to calibrate INT8 on"
        where = f"{len(paths)} images of {key}"
        steps = ["add images"]
    else:
        what = (
            "too few validation images are left to calibrate INT8 on: what is calibrated on cannot "
            "prove anything"
        )
        where = f"{len(paths)} validation images, {len(verified)} of them verified"
        steps = ["verify fewer images"] * bool(verified) + ["add some", "set data.calibration"]
    if drawn:
        steps.append(f"set export.quantize.calibration_images to {len(drawn)}")
    steps.append("or take --int8-method dynamic (export.quantize.int8_method), which needs none")
    return DataError(
        what,
        where=where,
        got=got,
        expected=f"{count} (export.quantize.calibration_images)",
        hint=", ".join(steps),
    )


def measure_ranges(
    model: onnx.ModelProto, batches: Iterable[Batch], ops: Collection[str]
) -> tuple[Ranges, int]:
    """Smallest and largest value of every float tensor that nodes of these operators touch.

    The graph reduces each tensor itself, so memory holds one batch at a time. Clipping outliers
    (entropy, percentiles) was tried: on the demo's detector it doubles the error of the boxes.
    ONNX Runtime's MinMaxCalibrater gives the same ranges, but passes over images that give NaN.

    Args:
        model: float32.
        batches: preprocessed images, float32 [N,3,H,W].

    Returns:
        The ranges by the tensor's name, and the number of images seen.

    Raises:
        ExportError: no batch, or values that are not finite.
    """
    augmented, names = _augmented(model, ops)
    run = opened(augmented)
    lows = np.full(len(names), np.inf, np.float32)
    highs = np.full(len(names), -np.inf, np.float32)
    images = 0
    for batch in batches:
        ends = np.array(run(batch), np.float32)
        lows, highs = np.minimum(lows, ends[0::2]), np.maximum(highs, ends[1::2])
        images += len(batch)
    if not images:
        raise ExportError(
            "there is no image to calibrate INT8 on", hint="give some, or use --int8-method dynamic"
        )
    finite = np.isfinite(lows) & np.isfinite(highs)
    if not finite.all():
        raise ExportError(
            "the float32 model gives values that are not finite on the calibration images",
            where=", ".join(names[index] for index in np.flatnonzero(~finite)[:3]),
            hint="verify the fp32 file first",
        )
    return dict(zip(names, zip(lows, highs, strict=True), strict=True)), images


def _augmented(
    model: onnx.ModelProto, ops: Collection[str]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with two scalars for outputs, minimum and maximum, of each tensor in question."""
    from onnx import TensorProto, helper

    graph_of = tidied(model)
    graph = graph_of.graph
    types = element_types(graph_of)
    weights = {tensor.name for tensor in graph.initializer}
    touched = {
        name for node in graph.node if node.op_type in ops for name in (*node.input, *node.output)
    }
    names = tuple(
        sorted(name for name in touched - weights if types.get(name) == TensorProto.FLOAT)
    )
    del graph.output[:]
    for index, name in enumerate(names):
        for kind in ("ReduceMin", "ReduceMax"):
            output = f"calibration/{index}/{kind}"
            graph.node.append(helper.make_node(kind, [name], [output], name=output, keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return graph_of, names
