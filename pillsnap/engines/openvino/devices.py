"""OpenVINO's devices, by what `--provider` takes, and as reports name them."""

from __future__ import annotations

DEVICES = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU", "npu": "NPU"}


def name_device(device: str) -> str:
    return f"OpenVINO {device}"
