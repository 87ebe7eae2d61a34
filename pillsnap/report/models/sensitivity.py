"""Which layers to keep in float, as --sensitivity finds it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pillsnap.report.models.values import Count, Natural, Numbers, Part, Size


class Loss(Part):
    """Against the reference, by the figures that the cell's profile judges"""

    share: Size = Field(
        description="The largest part of a tolerance that a figure takes up, 1 being all of it"
    )
    figure: str = Field(description="Which one; empty where none takes up anything")
    shares: Numbers = Field(description="Of every figure")
    error: Size = Field(
        description="Of the raw output: squared error relative to the squared output, of boxes to "
        "their areas, weighted by the reference's scores"
    )


class Layer(Part):
    name: str
    nodes: list[str]
    modules: list[str] = Field(description="Paths of the torch modules that the nodes come from")
    lowered: Loss = Field(description="When it alone is lowered")
    kept: Loss | None = Field(description="When everything but it is lowered")


class TradePoint(Part):
    layers: Count = Field(
        description="Kept in float: of those of `kept` the costliest; the last point is float32"
    )
    size_bytes: Natural
    latency_ms: Annotated[float, Field(ge=0)] = Field(description="Median, one image at a time")
    loss: Loss


class Calibrated(Part):
    method: Literal["minmax", "entropy", "percentile"]
    static: Loss = Field(description="Of the file that --int8-method static makes")
    kept: Loss | None = Field(description="With the layers of `kept` in float instead")
    seconds: float = Field(description="That finding the ranges took")


class Sensitivity(Part):
    """Measured on the images that INT8 is calibrated on, none of which is verified, with ONNX
    Runtime; INT8 on the CPU, FP16 on the cell's provider"""

    images: Count = Field(description="That `layers` were measured on")
    all_images: Count = Field(description="That everything else was measured on")
    margin: float = Field(description="The share up to which a set of layers counts as holding")
    layers: list[Layer] = Field(description="In the graph's order")
    whole: Loss | None = Field(description="With every layer lowered")
    kept: list[str] | None = Field(
        description="The smallest set of layers that was found to hold; null where none does"
    )
    loss: Loss | None = Field(description="With that set")
    trade: list[TradePoint]
    lists: dict[str, str] | None = Field(
        description="All nodes that stay float then, to be pasted: nodes, torch, onnxruntime, "
        "nncf (int8 alone), trtexec"
    )
    calibrations: list[Calibrated] = Field(description="With --compare-calibration")
    measured: Count = Field(description="Models that were run; others were known")
    problem: str | None
    seconds: float
