"""Which ONNX Runtime providers a cell asks for, and whether the one it asked for really runs."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence

from pillsnap.errors import EngineError

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
NAMES = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
INSTALL = {
    "cuda": "needs an NVIDIA driver, CUDA 13 and cuDNN 9: pip install onnxruntime-gpu torch",
    "tensorrt": "needs an NVIDIA driver and libnvinfer.so.10: pip install 'tensorrt-cu13>=10,<11'",
}


def select_onnx_providers(provider: str = "auto") -> list[str]:
    """Providers to ask ONNX Runtime for, best first.

    Args:
        provider: auto (CUDA when there is a driver, else CPU), cpu, cuda or tensorrt.

    `auto` may fall back to the CPU and logs it. The others are asked for whatever the machine has,
    so that `check_provider` can refuse; ort.get_available_providers() lists what the wheel was
    built with, not what can run.

    Raises:
        EngineError: no provider of that name.
    """
    if provider != "auto" and provider not in NAMES:
        raise EngineError(
            "there is no such provider", got=provider, expected=f"auto, {', '.join(NAMES)}"
        )
    if provider == "auto":
        if has_nvidia_driver():
            return [NAMES["cuda"], CPU]
        log.warning("provider auto: no NVIDIA driver on this machine, running on %s", CPU)
        return [CPU]
    if provider == "tensorrt":
        return [NAMES["tensorrt"], NAMES["cuda"], CPU]
    return [CPU] if provider == "cpu" else [NAMES[provider], CPU]


def has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def check_provider(provider: str, actual: Sequence[str]) -> None:
    """Refuse a session that does not run on the provider that was asked for by name.

    Args:
        provider: what the cell asked for.
        actual: session.get_providers(), best first.
    """
    if provider == "auto":
        if has_nvidia_driver() and actual[0] == CPU:
            log.warning("provider auto: CUDA could not be loaded, running on %s", CPU)
        return
    if actual[0] != NAMES[provider]:
        raise EngineError(
            f"provider {provider} was asked for and does not run",
            where="ONNX Runtime session",
            got=", ".join(actual),
            expected=NAMES[provider],
            hint=f"{INSTALL.get(provider, 'reinstall onnxruntime')}; "
            "or --engine onnx --provider auto, which may fall back and says so",
        )
