"""pillsnap: a CI gate for model export.

Exports a detector and a classifier to ONNX and proves, on the team's own validation images, that
what ships behaves as what was trained. Driven by pytest: see README.md. The names below load what
they need when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "PillsnapError": "pillsnap.core.errors",
    "export_classification_onnx": "pillsnap.export",
    "export_detection_onnx": "pillsnap.export",
    "infer_onnx": "pillsnap.engines.onnxruntime.sessions",
    "infer_torch": "pillsnap.engines.torch.model",
    "load_config": "pillsnap.config.load",
    "prepare_version_tag": "pillsnap.core.hashes",
    "preprocess": "pillsnap.pipeline.preprocess",
    "select_onnx_providers": "pillsnap.engines.onnxruntime.providers",
}

__all__ = ["__version__", *_PUBLIC]  # all are strings


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
