"""Is it the file? Training mode, weights, precision, the graph, the exporter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import PillsnapError
from pillsnap.core.hashes import sha256_file
from pillsnap.diagnose.distance import Figures, gap_of
from pillsnap.diagnose.fresh_exports import FreshExports
from pillsnap.diagnose.subject import Subject
from pillsnap.diagnose.trials import Trial, Trials
from pillsnap.engines import Batch
from pillsnap.engines.torch.checkpoints import find_best_checkpoint
from pillsnap.export import read_onnx
from pillsnap.export.onnxfile import PREFIX
from pillsnap.export.reading import exporter_of, opset_of

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, NDArray[np.float32]]

_QUANTIZED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear"})


def file_trials(
    subject: Subject, wanted: Batch, candidate: onnx.ModelProto, exports: FreshExports
) -> Trials:
    """Trials that change the file or replace it, what is particular first; `wanted` is the
    reference's answer."""
    stage, batch = subject.stage, subject.candidate.batch(subject.images)

    def run(model: Path | bytes, precision: str | None = None) -> Figures:
        return gap_of(wanted, subject.open(model, precision=precision), batch)

    evaluating = in_evaluation_mode(candidate)
    if evaluating is not None:
        # Tracing in training mode has also moved the running statistics.
        statistics = {
            name: value.numpy()
            for name, value in subject.load_network().state_dict().items()
            if name.endswith((".running_mean", ".running_var"))
        }
        evaluated, _ = transplant(evaluating, statistics)
        yield Trial(
            "conversion",
            "Dropout and BatchNormalization set to evaluation, with the checkpoint's statistics",
            "the model was exported in training mode (model.eval() was not called)",
            lambda: run(evaluated.SerializeToString()),
        )

    low = low_precision(candidate)
    healthy = None if low is not None else _fresh(subject, candidate, exports)
    if healthy is not None:
        mended, changed = transplant(candidate, float_weights(healthy))
        if changed:
            yield Trial(
                "weights",
                f"{len(changed)} weights of a fresh export",
                _weights_cause(subject, candidate, healthy, changed),
                lambda: run(mended.SerializeToString()),
            )
    kind, cause = (
        ("conversion", "conversion: operators or attributes are not what the exporter writes now")
        if low is None
        else ("precision", f"precision: the file computes in {low}")
    )
    yield Trial(
        kind,
        "a fresh float32 export in its place",
        cause,
        lambda: run(exports.like(stage, candidate), "fp32"),
    )
    yield Trial(
        "conversion",
        "the other exporter",
        f"the {exporter_of(candidate)} exporter at opset {opset_of(candidate)}",
        lambda: run(exports.unlike(stage, candidate), "fp32"),
    )


def in_evaluation_mode(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy whose Dropout and BatchNormalization nodes do nothing of training; None for a model
    that has no such nodes."""
    copy = type(model)()
    copy.CopyFrom(model)
    found = False
    for node in copy.graph.node:
        if node.op_type == "Dropout" and len(node.input) > 2:
            del node.input[2:]
            found = True
        for attribute in node.attribute:
            if node.op_type == "BatchNormalization" and attribute.name == "training_mode":
                found = found or attribute.i == 1
                attribute.i = 0
                del node.output[1:]
    return copy if found else None


def float_weights(model: onnx.ModelProto) -> Arrays:
    """A model's float32 initializers by name."""
    from onnx import TensorProto, numpy_helper

    kept = (tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in kept}


def transplant(model: onnx.ModelProto, given: Arrays) -> tuple[onnx.ModelProto, Arrays]:
    """A copy of a model with the given float32 weights where name and shape are the same, and by
    name the model's own of those that differ."""
    from onnx import numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)
    own = float_weights(model)
    changed = {
        name: values
        for name, values in own.items()
        if name in given
        and values.shape == given[name].shape
        and not np.array_equal(values, given[name])
    }
    for tensor in copy.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(given[tensor.name], tensor.name))
    return copy, changed


def low_precision(model: onnx.ModelProto) -> str | None:
    """FP16 or INT8 where a file computes in it, by its weights and operators."""
    from onnx import TensorProto

    if any(node.op_type in _QUANTIZED for node in model.graph.node):
        return "INT8"
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return "FP16" if any(t.data_type in half for t in model.graph.initializer) else None


def _fresh(
    subject: Subject, candidate: onnx.ModelProto, exports: FreshExports
) -> onnx.ModelProto | None:
    try:
        return read_onnx(exports.like(subject.stage, candidate))
    except PillsnapError:
        return None  # the trial that needs it says why


def _weights_cause(
    subject: Subject,
    candidate: onnx.ModelProto,
    healthy: onnx.ModelProto,
    changed: Arrays,
) -> str:
    """In words, how the weights that differ do."""
    made_from = {entry.key: entry.value for entry in candidate.metadata_props}
    digest = made_from.get(PREFIX + "checkpoint_sha256")
    checkpoint = find_best_checkpoint(subject.config, subject.stage)
    if digest and digest != sha256_file(checkpoint):
        return f"weights: the file was made from another checkpoint ({digest[:12]})"
    own = float_weights(healthy)
    with np.errstate(over="ignore"):
        halved = all(
            np.array_equal(values, own[name].astype(np.float16).astype(np.float32))
            for name, values in changed.items()
        )
    if halved:
        return "weights: rounded to half precision"
    names = ", ".join(list(changed)[:3]) + (" and more" if len(changed) > 3 else "")
    return f"weights: {len(changed)} differ from the checkpoint's ({names})"
