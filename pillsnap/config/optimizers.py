"""ONNX Runtime's graph optimizers, by the names that its option disabled_optimizers takes.

ONNX Runtime takes any other name without a word, and none reads back: this list is what names are
checked against, and what is searched for one that computes something else. From
onnxruntime/core/optimizer/graph_transformer_utils.cc, in the order in which they run.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Optimizer = Literal[
    # Rewrite rules.
    "EliminateIdentity",
    "EliminateSlice",
    "UnsqueezeElimination",
    "EliminateDropout",
    "ExpandElimination",
    "CastElimination",
    "CastChainElimination",
    "PreShapeNodeElimination",
    "NoopElimination",
    "DivMulFusion",
    "FuseReluClip",
    "GemmSumFusion",
    "GemmTransposeFusion",
    "NotWhereFusion",
    "ConvAddFusion",
    "ConvMulFusion",
    "ConvBNFusion",
    "Pad_Fusion",
    "PadFusion",
    "MatMul_BatchNormalization_Fusion",
    "LabelEncoderFusion",
    "ClipQuantRewrite",
    "ReluQuantRewrite",
    # ORT_ENABLE_BASIC.
    "DoubleQDQPairsRemover",
    "ConstantSharing",
    "CommonSubexpressionElimination",
    "ConstantFolding",
    "ConstantFoldingDQ",
    "MatMulAddFusion",
    "ReshapeFusion",
    "FreeDimensionOverrideTransformer",
    "GeluFusion",
    "GeluFusionL1",
    "LayerNormFusion",
    "LayerNormFusionL1",
    "QDQPropagationTransformer",
    "WeightBiasQuantization",
    "EnsureUniqueDQForNodeUnit",
    "SliceConcatToSpaceToDepthFusion",
    "GqaValueLayoutTransformer",
    "TransposeOptimizer",
    # ORT_ENABLE_EXTENDED.
    "TransposeOptimizer_CPUExecutionProvider",
    "QDQS8ToU8Transformer",
    "QDQSelectorActionTransformer",
    "GemmActivationFusion",
    "MatMulIntegerToFloatFusion",
    "DynamicQuantizeMatMulFusion",
    "ConvActivationFusion",
    "GeluFusionL2",
    "LayerNormFusionL2",
    "SimplifiedLayerNormFusion",
    "AttentionFusion",
    "EmbedLayerNormFusion",
    "GatherSliceToSplitFusion",
    "GatherToSliceFusion",
    "MatmulTransposeFusion",
    "BiasGeluFusion",
    "GroupQueryAttentionFusion",
    "GroupQueryAttentionPreNormFusion",
    "SkipLayerNormFusion",
    "BiasSkipLayerNormFusion",
    "FastGeluFusion",
    "QuickGeluFusion",
    "GeluApproximation",
    "BiasSoftmaxFusion",
    "BiasDropoutFusion",
    "MatMulScaleFusion",
    "MatMulActivationFusion",
    "Avx2WeightS8ToU8Transformer",
    "MatMulNBitsFusion",
    "DQMatMulNBitsFusion",
    "MatMulNBitsMlpFusion",
    "MatMulNBitsQkvFusion",
    "QDQFinalCleanupTransformer",
    # ORT_ENABLE_ALL.
    "NchwcTransformer",
    "NhwcTransformer",
    "ConvAddActivationFusion",
]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


_NAMES: tuple[Optimizer, ...] = get_args(Optimizer)

OPTIMIZERS: tuple[tuple[Optimizer, ...], ...] = tuple(
    tuple(name for name in _NAMES if _plain(name) == plain)
    for plain in dict.fromkeys(map(_plain, _NAMES))
)
"""Names of each optimizer; versions may spell one in two ways."""


def in_words(names: tuple[Optimizer, ...]) -> str:
    """Such as "Pad fusion" of ("Pad_Fusion", "PadFusion")."""
    words = re.findall(r"[A-Z0-9]+(?![a-z])|[A-Z][a-z0-9]*", names[0])
    return " ".join([words[0], *(w if w.isupper() else w.lower() for w in words[1:])])
