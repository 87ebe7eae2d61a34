"""The classes that a detection network consists of: torch's and ultralytics' layers by name.

Left out is what takes a path, an address or weights by name (TorchVision, DistillationModel, the
text models), and what other tasks need. Objects are made without constructors; what runs later is
the forward of these classes.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LAYERS = {
    "torch.nn.modules.activation": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh "
    "LeakyReLU LogSigmoid Mish MultiheadAttention PReLU ReLU ReLU6 SELU Sigmoid SiLU Softmax "
    "Softplus Softshrink Softsign Tanh Tanhshrink Threshold",
    "torch.nn.modules.batchnorm": "BatchNorm1d BatchNorm2d SyncBatchNorm",
    "torch.nn.modules.container": "ModuleDict ModuleList ParameterList Sequential",
    "torch.nn.modules.conv": "Conv1d Conv2d ConvTranspose2d",
    "torch.nn.modules.dropout": "Dropout Dropout2d",
    "torch.nn.modules.flatten": "Flatten Unflatten",
    "torch.nn.modules.instancenorm": "InstanceNorm2d",
    "torch.nn.modules.linear": "Identity Linear NonDynamicallyQuantizableLinear",
    "torch.nn.modules.normalization": "GroupNorm LayerNorm",
    "torch.nn.modules.padding": "ConstantPad2d ReflectionPad2d ReplicationPad2d ZeroPad2d",
    "torch.nn.modules.pixelshuffle": "PixelShuffle PixelUnshuffle",
    "torch.nn.modules.pooling": "AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool2d MaxPool2d",
    "torch.nn.modules.upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
    "ultralytics.nn.modules.activation": "AGLU",
    "ultralytics.nn.modules.block": "A2C2f AAttn ABlock AConv ADown Attention Bottleneck "
    "BottleneckCSP C1 C2 C2PSA C2f C2fCIB C2fPSA C3 C3Ghost C3TR C3f C3k C3k2 C3x CBFuse CBLinear "
    "CIB DFL ELAN1 GhostBottleneck HGBlock HGStem PSA PSABlock RepBottleneck RepC3 RepCSP "
    "RepNCSPELAN4 RepVGGDW ResNetBlock ResNetLayer SCDown SPP SPPELAN SPPF",
    "ultralytics.nn.modules.conv": "CBAM ChannelAttention Concat Conv Conv2 ConvTranspose DWConv "
    "DWConvTranspose2d Focus GhostConv Index LightConv RepConv SpatialAttention",
    "ultralytics.nn.modules.head": "Detect v10Detect",
    "ultralytics.nn.modules.transformer": "AIFI LayerNorm2d MLPBlock TransformerBlock "
    "TransformerEncoderLayer TransformerLayer",
    "ultralytics.nn.tasks": "DetectionModel",
}

# What older versions called them; before 8.0.101 all layers were of one module.
_OLD_NAMES = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.modules.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
}


@cache
def network_layers() -> dict[str, type[torch.nn.Module]]:
    """Class by every dotted name that a pickle may call it; imports ultralytics."""
    found = {}
    for module, names in LAYERS.items():
        try:
            there: Any = import_module(module)
        except ModuleNotFoundError:  # of another version
            continue
        for name in names.split():
            layer = getattr(there, name, None)
            if layer is None:
                continue
            found[f"{module}.{name}"] = layer
            if module.startswith("ultralytics.nn.modules."):
                found[f"ultralytics.nn.modules.{name}"] = layer
    for old, new in _OLD_NAMES.items():
        if new in found:
            found[old] = found[new]
    return found
