"""The reference engine: the checkpoint as trained, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.artifacts import sha256_file
from pillsnap.checkpoints import (
    build_model,
    count_params,
    find_best_checkpoint,
    stage_transform,
)
from pillsnap.engines.protocol import Batch, Engine, Reference, Request
from pillsnap.errors import EngineError

if TYPE_CHECKING:
    import torch


def infer_torch(module: torch.nn.Module, batch: Batch, device: str = "cpu") -> Batch:
    """Run a module on [N,3,H,W] float32 without gradients; returns its output as float32."""
    import torch

    with torch.inference_mode():
        output: Batch = module(torch.from_numpy(batch).to(device)).float().cpu().numpy()
    return output


class TorchEngine:
    """A torch module on a device."""

    def __init__(self, module: torch.nn.Module, info: dict[str, Any], device: str) -> None:
        self.info = {**info, "device": device, "providers": [f"torch:{device}"]}
        self._module = module.to(device)
        self._device = device

    def run(self, batch: Batch) -> Batch:
        return infer_torch(self._module, batch, self._device)


class OneByOne:
    """Every image as a batch of its own: the same arithmetic in another blocking, which is what the
    noise floor is made of. As a candidate it gives six columns of boxes, like every other."""

    def __init__(self, engine: Engine) -> None:
        self.info = engine.info
        self._engine = engine

    def run(self, batch: Batch) -> Batch:
        parts = [self._engine.run(batch[index : index + 1]) for index in range(len(batch))]
        output = np.concatenate(parts)
        return output[..., :6] if output.ndim == 3 else output


def _device(wanted: str, where: str) -> str:
    import torch

    if wanted != "cuda" or torch.cuda.is_available():
        return wanted
    raise EngineError(
        "torch has no CUDA device",
        where=where,
        got="cuda",
        expected="a GPU that torch.cuda.is_available() sees",
        hint="run on a GPU machine, or use cpu",
    )


def open_reference(request: Request) -> Reference:
    """The checkpoint of the request's stage; what every engine of pillsnap is compared with."""
    setting = "export.compare.reference_device"
    return _open(request, request.config.compare.reference_device, setting)


def _open(request: Request, wanted_device: str, setting: str) -> Reference:
    config, stage = request.config, request.cell.stage
    checkpoint = find_best_checkpoint(config.exp_dir, stage)  # before the slow import of torch
    import torch

    torch.set_num_threads(request.threads)
    # TF32 keeps ten bits of mantissa: an fp32 reference must not use it.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    device = _device(wanted_device, setting)
    loaded = build_model(config, stage, checkpoint)
    info = {
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": sha256_file(checkpoint),
        "params_million": count_params(loaded.module),
    }
    engine = TorchEngine(loaded.module, info, device)
    return Reference(engine, stage_transform(config, stage), loaded.strides)


class TorchBackend:
    """`--engine torch`: torch against itself."""

    def open_reference(self, request: Request) -> Reference:
        return open_reference(request)

    def open_candidate(self, request: Request) -> Engine:
        provider = request.cell.provider
        if provider == "tensorrt" or request.cell.precision != "fp32":
            raise EngineError(
                "engine torch only compares fp32 with itself, on cpu or cuda",
                where=request.cell.id,
                hint="use --engine onnx for other providers and precisions",
            )
        device = "cuda" if provider == "cuda" else "cpu"
        return OneByOne(_open(request, device, "--provider").engine)
