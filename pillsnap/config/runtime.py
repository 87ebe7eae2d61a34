"""ONNX Runtime's settings as config.yaml has them, under ONNX Runtime's own names.

The fields are the list that keys are checked against: ONNX Runtime itself takes an unknown option
without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pillsnap.config.fields import STRICT, Count
from pillsnap.config.optimizers import Optimizer

GraphOptimization = Literal[
    "ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"
]
Switch = Literal[0, 1]
Number = Annotated[int, Field(ge=0, le=1024)]


@dataclass(frozen=True, config=STRICT)
class Cpu:
    """Threads of CPUExecutionProvider; 0: as many as there are cores."""

    intra_op_num_threads: Number = 0
    inter_op_num_threads: Number = 0


@dataclass(frozen=True, config=STRICT)
class Cuda:
    """Options of CUDAExecutionProvider. TF32 is not among them: it is off."""

    device_id: Number = 0
    cudnn_conv_use_max_workspace: Switch = 1


@dataclass(frozen=True, config=STRICT)
class Tensorrt:
    """Options of TensorrtExecutionProvider."""

    device_id: Number = 0
    trt_max_workspace_size: Count = 8 * 2**30
    trt_max_partition_iterations: Count = 1000
    trt_min_subgraph_size: Count = 1
    trt_fp16_enable: bool = True
    trt_int8_enable: bool = False
    trt_engine_cache_enable: bool = True
    trt_engine_cache_path: Path | None = None


@dataclass(frozen=True, config=STRICT)
class Runtime:
    """How sessions are made. Attributes are documented in config.yaml."""

    graph_optimization_level: GraphOptimization = "ORT_ENABLE_ALL"
    disabled_optimizers: tuple[Optimizer, ...] = ()
    cpu: Cpu = Cpu()
    cuda: Cuda = Cuda()
    tensorrt: Tensorrt = Tensorrt()

    def device_id(self, provider: str) -> int:
        """CUDA's number of the GPU that a provider is given, by its name or ONNX Runtime's."""
        named = self.tensorrt if provider.lower().startswith("tensorrt") else self.cuda
        return named.device_id
