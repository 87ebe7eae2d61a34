"""How the candidate of a cell ran: where, in which types, at which sizes, how fast."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pillsnap.report.models.values import Count, Counts, Natural, Numbers, Part, Size


class Placement(Part):
    provider: str = Field(description="The one asked for; of auto the one that runs")
    compute_nodes: Count = Field(description="Convolutions and matrix products, before fusion")
    compute_nodes_on_provider: Count
    compute_nodes_by_provider: Counts
    other_ops_elsewhere: Counts = Field(
        description="Other nodes on another provider, counted by op type"
    )


class ComputePrecision(Part):
    compute_nodes: Count = Field(description="Of the file, before fusion")
    compute_nodes_by_type: Counts = Field(
        description="fp32, fp16, int8, or onnx's name of another. int8: operators of integers, and "
        "those whose activations and weights both are dequantised"
    )
    weight_only_nodes: Count = Field(
        description="Those whose weights alone have fewer bits than they are multiplied in"
    )


class Execution(Part):
    """Where the candidate really ran; null for an engine without providers"""

    providers: list[str] = Field(description="Of the session, best first")
    provider_options: dict[str, dict[str, str]] = Field(
        description="What reads back of the options asked for, by provider"
    )
    placement: Placement
    precision: ComputePrecision | None = Field(
        description="What it computes in; null where the engine does not prove it"
    )


class InnerNms(Part):
    """Thresholds by which the reference's boxes are kept: of the NMS inside the file; what its
    graph does not say is the configuration's. Of a one-to-one head only the score counts"""

    conf_threshold: float
    iou_threshold: float
    max_detections: Natural
    class_agnostic: bool


class Layout(Part):
    """How the outputs of a file that was named and is not pillsnap's are read; null for others"""

    name: str = Field(description="As --layout takes it")
    words: str = Field(description="Shape and meaning of its outputs")
    outputs: list[str] = Field(description="Names of those that are read")
    others: list[str] = Field(description="Names of those that are not, and not compared")
    compared: Literal["outputs", "probabilities", "boxes", "one-to-one"] = Field(
        description="probabilities: figures of logits are of their logarithms. boxes, one-to-one: "
        "raw outputs are not to be had, and what raw_*, class_flip_gap and exactness say of every "
        "anchor is of the boxes that both sides kept, after NMS or of the one-to-one head"
    )
    plain: bool = Field(
        description="Whether its first output is what pillsnap's own files give: only such a graph "
        "is compared and diagnosed"
    )
    asked: bool = Field(description="Whether --layout named it")
    batch_size: Natural | None = Field(
        description="The one that the file takes, which batches are filled up to; null: any"
    )
    nms: InnerNms | None = Field(description="null of a file without one")


class Batching(Part):
    """At which sizes of its free axes the candidate ran on the first images of the cell, and how
    far its answers depend on the batch; null where no axis is free, where an engine is not to be
    tried (TensorRT builds one for every size), and of hard samples"""

    batch_sizes: list[Natural] = Field(description="The cell's own first")
    input_sizes: list[list[int]] = Field(description="Height and width, the cell's own first")
    images: Count = Field(description="How many were answered in another batch as well")
    drift: Numbers | None = Field(
        description="Their largest difference from what the cell's batch answered, held to the "
        "tolerances of the figures of these names; null where the batch size is fixed"
    )


class Performance(Part):
    """Speed and memory of the candidate; null without figures"""

    contended: bool = Field(
        description="Several workers shared the machine: the figures tell little, and no budget is "
        "judged"
    )
    kind: str | None = Field(
        description="Processor or GPU of the cluster's node that was timed; null on one machine"
    )
    batch_size: Natural | None = Field(description="Images of the batches that were timed")
    batch_runs: Count
    images_per_s: Size = Field(description="In such batches, after the first")
    batch_latency_p50_ms: Size = Field(description="Median time of a batch")
    batch_latency_p95_ms: Size = Field(description="95th percentile of it")
    single_runs: Count
    single_problem: str | None = Field(description="Why one image could not be timed")
    latency_p50_ms: Size = Field(
        description="Median time of one image; of ONNX Runtime in a process of its own"
    )
    latency_p95_ms: Size = Field(description="95th percentile of it")
    torch_images_per_s: Size = Field(
        description="The reference in batches of the same size on the same machine"
    )
    torch_remembered: bool | None = Field(
        description="Whether torch_images_per_s was measured in an earlier run, on a machine that "
        "may have been busier: a run whose reference answers from the cache opens no torch"
    )
    speedup_over_torch: Size = Field(description="images_per_s over torch_images_per_s")
    speedup_over_fp32: Size = Field(
        description="Of a file of lower precision that this run made or found: its speed over that "
        "of the float32 file it was made from"
    )
    fp32_compared: Literal["batches", "alone"] | None = Field(
        description="By images_per_s of the run's own float32 cell, or by latency_p50_ms, for "
        "which the float32 file was timed too"
    )
    peak_memory_mib: Size = Field(
        description="Peak resident memory of a process that runs this model alone, one image at a "
        "time"
    )
    peak_gpu_memory_mib: Size = Field(
        description="What that process takes of the GPU's memory; null without one"
    )
    model_size_mib: Size = Field(description="Of the file")
