"""The layers that a network of ultralytics consists of, torch's and its own: classes by name, and
the state of one: tensors, layers and plain values, nothing that changes its code.

Left out is what takes a path, an address or weights by name (TorchVision, DistillationModel, the
text models; no forward of a YOLO-World asks for one), and what other tasks need. Objects are made
without constructors; what runs later is the forward of these classes.
"""

from __future__ import annotations

import inspect
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pillsnap.core.printable import printable
from pillsnap.engines.torch.torchfile.budget import Unreadable
from pillsnap.engines.torch.torchfile.objects import OwnForward, StandIn

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
    "torch.nn.modules.sparse": "Embedding",
    "torch.nn.modules.linear": "Identity Linear NonDynamicallyQuantizableLinear",
    "torch.nn.modules.normalization": "GroupNorm LayerNorm",
    "torch.nn.modules.padding": "ConstantPad2d ReflectionPad2d ReplicationPad2d ZeroPad2d",
    "torch.nn.modules.pixelshuffle": "PixelShuffle PixelUnshuffle",
    "torch.nn.modules.pooling": "AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool2d MaxPool2d",
    "torch.nn.modules.upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
    "ultralytics.nn.modules.activation": "AGLU",
    "ultralytics.nn.modules.block": "A2C2f AAttn ABlock AConv ADown Attention Bottleneck "
    "BottleneckCSP BNContrastiveHead C1 C2 C2PSA C2f C2fAttn C2fCIB C2fPSA C3 C3Ghost C3TR C3f C3k "
    "C3k2 C3x CBFuse CBLinear CIB ContrastiveHead DFL ELAN1 GhostBottleneck HGBlock HGStem "
    "ImagePoolingAttn MaxSigmoidAttnBlock PSA PSABlock RepBottleneck RepC3 RepCSP RepNCSPELAN4 "
    "RepVGGDW ResNetBlock ResNetLayer SCDown SPP SPPELAN SPPF",
    "ultralytics.nn.modules.conv": "CBAM ChannelAttention Concat Conv Conv2 ConvTranspose DWConv "
    "DWConvTranspose2d Focus GhostConv Index LightConv RepConv SpatialAttention",
    "ultralytics.nn.modules.head": "Classify Detect RTDETRDecoder WorldDetect v10Detect",
    "ultralytics.nn.modules.transformer": "AIFI DeformableTransformerDecoder "
    "DeformableTransformerDecoderLayer LayerNorm2d MLP MLPBlock MSDeformAttn TransformerBlock "
    "TransformerEncoderLayer TransformerLayer",
    "ultralytics.nn.tasks": "ClassificationModel DetectionModel RTDETRDetectionModel WorldModel",
}

# What older versions called them; before 8.0.101 all layers were of one module.
_OLD_NAMES = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.modules.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
}

_HELD = ("_buffers", "_modules", "_parameters")


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


def fill_layer(layer: torch.nn.Module, state: object) -> None:
    """Give a layer that was made without its constructor the state of its pickle; Unreadable where
    that has methods, hooks, or other things than its class would hold."""
    if not isinstance(state, dict) or vars(layer):
        raise _refusal(layer, "its state", "a second state" if vars(layer) else type(state))
    own: dict[Any, Any] = {name: {} for name in _HELD} | state
    fused = False
    for name in list(own):
        value = own[name]
        if type(name) is not str:
            raise _refusal(layer, "an attribute's name", name)
        if name == "forward" and isinstance(value, OwnForward) and value.layer is layer:
            fused = hasattr(type(layer), "forward_fuse")
            del own[name]
        elif name in _HELD:
            _require_parts(layer, name, value)
        elif name == "_non_persistent_buffers_set":
            if not isinstance(value, set):
                raise _refusal(layer, name, value)
        elif name.endswith("_hooks") or name == "_compiled_call_impl":
            if value:
                raise _refusal(layer, name, value)
        elif name == "type" and isinstance(value, str):
            pass  # ultralytics writes the class's name over this method of torch's
        elif name.startswith("__") or inspect.isroutine(
            inspect.getattr_static(type(layer), name, None)
        ):
            raise _refusal(layer, f"a {name} of its own", value)
    made: Any = layer
    type(made).__setstate__(made, own)
    if fused:
        made.forward = made.forward_fuse


def _require_parts(layer: torch.nn.Module, name: str, held: Any) -> None:
    """Check that parameters, buffers and layers are such."""
    import torch

    allowed: dict[str, Any] = {
        "_buffers": torch.Tensor,
        "_modules": torch.nn.Module | StandIn,  # of an unknown class; said by name later
        "_parameters": torch.nn.Parameter,
    }
    if not isinstance(held, dict):
        raise _refusal(layer, name, held)
    for key, part in held.items():
        if type(key) is not str or not (part is None or isinstance(part, allowed[name])):
            raise _refusal(layer, f"{name} {key}", part)


def _refusal(layer: torch.nn.Module, what: str, found: object) -> Unreadable:
    shown = found.name if isinstance(found, StandIn) else f"a {type(found).__name__}"
    return Unreadable(
        "a layer of the checkpoint is not as its class makes it",
        printable(f"{type(layer).__name__} with {what}: {shown}", 200),
        "save the model again with the ultralytics that trained it",
    )
