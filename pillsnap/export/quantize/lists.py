"""The nodes that stay float, written as other tools take them."""

from __future__ import annotations

from collections.abc import Sequence

from pillsnap.export.quantize.int8 import STATIC_OPS


def write_lists(precision: str, nodes: Sequence[str], modules: Sequence[str]) -> dict[str, str]:
    """Text to paste, by the tool that it is for.

    Args:
        precision: fp16 or int8, which what is not kept is lowered to.
        nodes: names of ONNX nodes, in the graph's order.
        modules: paths of the torch modules that they come from.
    """
    lines = "".join(f"    {name!r},\n" for name in nodes)
    listed = f"[\n{lines}]" if nodes else "[]"
    texts = {"nodes": "\n".join(nodes), "torch": "\n".join(modules)}
    if precision == "int8":
        texts["onnxruntime"] = (
            f"nodes_to_exclude={listed},\nop_types_to_quantize={list(STATIC_OPS)!r},\n"
            "per_channel=True,\nreduce_range=True,\n"
        )
        texts["nncf"] = f"ignored_scope=nncf.IgnoredScope(names={listed}),\n"
    else:
        texts["onnxruntime"] = f"node_block_list={listed},\n"
    pairs = ",".join(f"{name}:fp32" for name in nodes)
    texts["trtexec"] = f"--{precision} --precisionConstraints=obey"
    texts["trtexec"] += f" '--layerPrecisions={pairs}'" if pairs else ""
    return texts
