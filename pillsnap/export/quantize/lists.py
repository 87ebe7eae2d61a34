"""The nodes that stay float, written as other tools take them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pillsnap.export.quantize.int8 import STATIC_OPS

# What takes them in config.yaml, below export.quantize.
_SETTINGS = {"int8": "nodes_to_exclude", "fp16": "fp16_nodes_to_exclude"}


def write_lists(
    precision: str,
    nodes: Sequence[str],
    modules: Sequence[str],
    outputs: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Text to paste, by the tool that it is for.

    Args:
        precision: fp16 or int8, which what is not kept is lowered to.
        nodes: names of ONNX nodes, in the graph's order.
        modules: paths of the torch modules that they come from.
        outputs: of the graph, see outputs_of.
    """
    listed = _listed(nodes)
    # JSON's strings are YAML's too, whatever a name holds.
    lines = "".join(f"  - {json.dumps(name)}\n" for name in nodes)
    texts = {
        "nodes": f"{_SETTINGS[precision]}:\n{lines}" if nodes else "",
        "torch": "\n".join(modules),
    }
    if precision == "int8":
        texts["onnxruntime"] = (
            f"nodes_to_exclude={listed},\nop_types_to_quantize={list(STATIC_OPS)!r},\n"
            "per_channel=True,\nreduce_range=True,\n"
        )
        # For a model of ONNX and of OpenVINO, where a node's name is that of the addition of its
        # biases, or the output's; of nodes that became one with others nothing is left to name.
        names = dict.fromkeys(each for name in nodes for each in (name, *outputs.get(name, ())))
        patterns = [f"{re.escape(name)}(/WithoutBiases)?$" for name in names]
        texts["nncf"] = (
            f"ignored_scope=nncf.IgnoredScope(patterns={_listed(patterns)}, validate=False),\n"
        )
    else:
        texts["onnxruntime"] = f"node_block_list={listed},\n"
    pairs = ",".join(f"{name}:fp32" for name in nodes)
    texts["trtexec"] = f"--{precision} --precisionConstraints=obey"
    texts["trtexec"] += f" '--layerPrecisions={pairs}'" if pairs else ""
    return texts


def _listed(texts: Sequence[str]) -> str:
    """A list as Python has it, a text a line."""
    lines = "".join(f"    {text!r},\n" for text in texts)
    return f"[\n{lines}]" if texts else "[]"
