"""Sessions of ONNX Runtime over graphs in memory: on the CPU, beside other work, and soon gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnxruntime


def open_in_memory(
    model: onnx.ModelProto, threads: int, *, optimise: bool = True
) -> onnxruntime.InferenceSession:
    """Open a graph; whatever ONNX Runtime raises is left to the caller to explain.

    Args:
        threads: intra-op threads; 0 lets ONNX Runtime choose.
        optimise: whether nodes may be fused; without, every tensor of the graph exists.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimise:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # It would keep what the largest batch took; dozens of these sessions come and go.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
