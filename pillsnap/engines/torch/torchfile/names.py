"""The names that a checkpoint may hold, all of them; what is not here is refused.

None takes a path, an address or code. Data beside the weights are read as stand-ins.
"""

from __future__ import annotations

import re

# Names of Python 2, which pickles of protocol 2 bear to this day, and of moved modules.
_MOVED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "torch.tensor": "torch._tensor",
    "pathlib._local": "pathlib",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
}

# Figures, arguments and states that trainers save beside the weights.
_DATA = {
    "argparse": "Namespace",
    "builtins": "bool bytearray bytes complex dict float int list object range slice str tuple "
    "type",
    "collections": "Counter defaultdict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "numpy": "ndarray",
    "numpy.core.multiarray": "_reconstruct",
    "numpy.core.numeric": "_frombuffer",
    "numpy.random": "Generator RandomState",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode FloatNode IntegerNode StringNode",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "torch": "Size device layout dtype memory_format",
    "torch._tensor": "Tensor",
    "torch._utils": "_rebuild_meta_tensor_no_storage _rebuild_nested_tensor _rebuild_qtensor "
    "_rebuild_sparse_tensor _rebuild_wrapper_subclass",
    "torch.serialization": "_get_layout",
    "torch.torch_version": "TorchVersion",
    "types": "SimpleNamespace",
    "typing": "Any Union",
    "ultralytics.utils": "IterableSimpleNamespace",
    "ultralytics.yolo.utils": "IterableSimpleNamespace",
    "uuid": "UUID",
    "yacs.config": "CfgNode",
}
_NUMPY_TYPE = re.compile(r"bool_?|bytes_|complex\d+|float\d+|object_|str_|u?int\d+|void")

# Any class of these may be named, none is made: schedulers, losses, networks of other tasks.
_CLASSES_OF = ("torch.optim.", "torchvision.transforms.", "ultralytics.utils.")
_LAYERS_OF = ("torch.nn.modules.", "ultralytics.models.", "ultralytics.nn.", "ultralytics.yolo.")
_CLASS = re.compile("[A-Z][A-Za-z0-9]*|v8[A-Za-z]*Loss|v10DetectLoss")


def present_name(module: str, name: str) -> tuple[str, str]:
    """Module and name under which this table knows a global."""
    return _MOVED.get(module, module), name


def is_data(module: str, name: str) -> bool:
    """Whether a global is data that may be pickled in any way."""
    if name in _DATA.get(module, "").split() or (module == "numpy.dtypes" and _CLASS.match(name)):
        return True
    if module == "numpy" and _NUMPY_TYPE.fullmatch(name):
        return True
    return f"{module}.".startswith(_CLASSES_OF) and _CLASS.fullmatch(name) is not None


def is_layer(module: str, name: str) -> bool:
    """Whether a global is a class of a network, which only ever lies there as an object."""
    return f"{module}.".startswith(_LAYERS_OF) and _CLASS.fullmatch(name) is not None
