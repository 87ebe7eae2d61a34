"""A trained model as torch runs it, in float32."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pillsnap.engines.protocol import Batch
from pillsnap.engines.torch.checkpoints import LoadedModel

if TYPE_CHECKING:
    import torch


def infer_torch(module: torch.nn.Module, batch: Batch, device: str = "cpu") -> Batch:
    """Run a module on [N,3,H,W] float32 without gradients; returns its output as float32."""
    import torch

    return _infer(module, torch.from_numpy(batch).to(device))


def _infer(module: torch.nn.Module, images: torch.Tensor) -> Batch:
    import torch

    with torch.inference_mode():
        output: Batch = module(images).float().cpu().numpy()
    return output


# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks instead of handing them back to the system.

    Otherwise every layer's output costs new pages, which the kernel has to clear. Measured on two
    CPUs at a batch of 8: YOLO11m 1.06 -> 0.82 s an image, EfficientNetV2-S 0.37 -> 0.25, for a peak
    of memory that is 10 to 30 % higher. Other C libraries have no mallopt, and go without.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class TorchEngine:
    """A trained model, loaded when it is first asked something: what was remembered of it is read
    faster than torch is imported.

    Args:
        load: gives the model.
        info: what the report says of it.
        device: cpu or cuda.
        threads: intra-op threads.
        channels_last: the memory format of the model.
    """

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        info: dict[str, Any],
        *,
        device: str,
        threads: int,
        channels_last: bool = False,
    ) -> None:
        self.info = {**info, "device": device, "providers": [f"torch:{device}"]}
        self._load = load
        self._device = device
        self._threads = threads
        self._channels_last = channels_last

    @cached_property
    def loaded(self) -> LoadedModel:
        import torch

        keep_freed_memory()
        torch.set_num_threads(self._threads)
        # TF32 keeps ten bits of mantissa: an fp32 reference must not use it.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        loaded = self._load()
        loaded.module.to(self._device)
        return loaded

    def run(self, batch: Batch) -> Batch:
        return infer_torch(self.loaded.module, batch, self._device)

    def run_with_threads(self, batch: Batch) -> Batch:
        """`run` with one thread, or with two where the engine has one."""
        import torch

        module = self.loaded.module
        torch.set_num_threads(2 if self._threads == 1 else 1)
        try:
            return infer_torch(module, batch, self._device)
        finally:
            torch.set_num_threads(self._threads)

    def run_in_other_format(self, batch: Batch) -> Batch:
        """`run` with channels last, or channels first where the model has them last.

        On a copy: a 1 x 1 convolution that was converted keeps strides that pass for either format,
        and the model would run otherwise, and slower, from then on.
        """
        import torch

        other = torch.contiguous_format if self._channels_last else torch.channels_last
        # torch's stubs do not know that modules take a memory format alone.
        convert: Callable[..., torch.nn.Module] = copy.deepcopy(self.loaded.module).to
        images = torch.from_numpy(batch).to(self._device)
        return _infer(convert(memory_format=other), images.contiguous(memory_format=other))
