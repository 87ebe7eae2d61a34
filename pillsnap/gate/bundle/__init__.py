"""A golden bundle: inputs and reference outputs of a run, to verify candidates on other machines
with no torch, no checkpoint and no image.

    DIR/manifest.json                       the shards of each cell, with hashes, transform, strides
    DIR/<stage>-<mode>-<number>.json        ids, labels, boxes, geometries and hashes of its images
    DIR/<stage>-<mode>-<number>.input.npy   float32 [N,3,H,W]
    DIR/<stage>-<mode>-<number>.output.npy  float32 [N,classes], or [N,boxes,7]
    DIR/<stage>-<mode>-<number>.exact.npy   float64, of the first shard's first images: the same run
                                            in float64
"""

from __future__ import annotations

from pillsnap.gate.bundle.reading import Bundle
from pillsnap.gate.bundle.writing import ShardWriter, shard_name, write_manifest

__all__ = ["Bundle", "ShardWriter", "shard_name", "write_manifest"]
