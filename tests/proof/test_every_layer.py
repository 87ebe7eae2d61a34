"""Small faults of every layer in turn: how exact the file still is; where that does not tell, its
graph has to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.export.graphs import find_differences
from pillsnap.proof.healthy import Healthy, prepare
from pillsnap.proof.onnx_edits import Weights, change, float_weights
from pillsnap.proof.roles import multiplied
from pillsnap.proof.trial import make_bench
from pillsnap.proof.weights import flip_bit
from pillsnap.proof.yardstick import Yardstick
from tests.proof.conftest import Record

HALF, TINY = "in half precision", "x (1 + 1e-5)"

FAULTS: dict[str, Callable[[Weights], Weights]] = {
    HALF: lambda weights: weights.astype(np.float16).astype(np.float32),
    "x 1.003": lambda weights: weights * np.float32(1.003),
    TINY: lambda weights: weights * np.float32(1 + 1e-5),
    "exponent bit": partial(flip_bit, bit=23),
    **{f"mantissa bit {bit}": partial(flip_bit, bit=bit) for bit in (22, 21, 20, 19)},
}

# The last layers of an ultralytics detector's heads: few weights, and no layer behind them.
LAST = re.compile(r"cv[23]\.\d+\.2\.weight$")


def model(stage: str, name: str, side: int, only: str = "", *, slow: bool = False) -> Any:
    case = Healthy(stage, name, (side, side), "torchscript", 17, 4)
    marks = [pytest.mark.slow] * slow
    return pytest.param(case, re.compile(only), marks=marks, id=f"{case.id}{'-last' * bool(only)}")


@pytest.mark.parametrize(
    ("case", "only"),
    [
        model(CLASSIFICATION, "", 96),
        model(DETECTION, "", 128, LAST.pattern),
        model(DETECTION, "", 128, slow=True),
        model(DETECTION, "yolo11n", 128, slow=True),
        model(CLASSIFICATION, "efficientnetv2_s", 96, slow=True),
    ],
)
def test_no_layer_can_change_unseen(
    case: Healthy, only: re.Pattern[str], demo: Config, folder: Path, record: Record
) -> None:
    bench = make_bench(prepare(case, demo, folder), case.stage, folder)
    yardstick = Yardstick(bench, threads=1)
    healthy, broken = bench.model(), bench.model()
    assert yardstick.exactness(healthy) < yardstick.limit / 2
    assert find_differences(healthy, bench.model()) == []
    tensors = {tensor.name: tensor for tensor in broken.graph.initializer}
    names, layers = float_weights(broken), multiplied(broken)
    caught: dict[str, Counter[str]] = {fault: Counter() for fault in FAULTS}
    for name in filter(only.search, names):
        whole = onnx.TensorProto()
        whole.CopyFrom(tensors[name])
        for fault in FAULTS if name in layers else (HALF,):  # of biases too
            change(broken, name, FAULTS[fault])
            # Zeros, and whole numbers, may stay as they are.
            if not np.array_equal(*map(numpy_helper.to_array, (tensors[name], whole))):
                if yardstick.exactness(broken) > yardstick.limit:
                    by = "exactness"
                else:
                    by = "its graph alone" if find_differences(healthy, broken) else "nothing"
                caught[fault][by] += 1
            tensors[name].CopyFrom(whole)
    record("every_layer", {"model": case.id, "layers": len(layers), "caught": caught})
    assert not any(found["nothing"] for found in caught.values()), caught
    # One weight of a million, a little off, changes less than rounding does.
    for fault, found in caught.items():
        assert fault == TINY or found["exactness"] >= 0.4 * found.total(), caught
    assert caught["x 1.003"]["exactness"] == sum(bool(only.search(name)) for name in layers)
