"""The reference engine: the checkpoint as trained, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.artifacts import sha256_file
from pillsnap.checkpoints import (
    build_classification_model,
    build_detection_model,
    count_params,
    find_best_checkpoint,
    letterbox_transform,
    resolve_classify_transform,
)
from pillsnap.engines import Batch, Engine, Reference, Request
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
    """A torch module. `one_by_one` runs every image as a batch of its own: the same arithmetic in
    another blocking, which is what the noise floor is made of."""

    def __init__(
        self,
        module: torch.nn.Module,
        info: dict[str, Any],
        device: str,
        *,
        one_by_one: bool = False,
    ) -> None:
        self.info = info
        self._module = module.to(device)
        self._device = device
        self._one_by_one = one_by_one

    def run(self, batch: Batch) -> Batch:
        if not self._one_by_one:
            return infer_torch(self._module, batch, self._device)
        images = (batch[index : index + 1] for index in range(len(batch)))
        return np.concatenate([infer_torch(self._module, image, self._device) for image in images])


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
    config, stage = request.config, request.cell.stage
    checkpoint = find_best_checkpoint(config.exp_dir, stage)  # before the slow import of torch
    import torch

    torch.set_num_threads(request.threads)
    # TF32 keeps ten bits of mantissa: an fp32 reference must not use it.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    device = _device(config.compare.reference_device, "export.compare.reference_device")
    if stage == "detection":
        loaded = build_detection_model(config, checkpoint)
    else:
        loaded = build_classification_model(config, checkpoint)
    info = {
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": sha256_file(checkpoint),
        "params_million": count_params(loaded.module),
        "device": device,
    }
    transform = (
        letterbox_transform(config) if stage == "detection" else resolve_classify_transform(config)
    )
    return Reference(TorchEngine(loaded.module, info, device), transform, loaded.strides)


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
        engine = open_reference(request).engine
        assert isinstance(engine, TorchEngine)
        device = _device("cuda" if provider == "cuda" else "cpu", "--provider")
        info = {**engine.info, "device": device, "providers": [f"torch:{device}"]}
        return TorchEngine(engine._module, info, device, one_by_one=True)
