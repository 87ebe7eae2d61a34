"""How the graph of a file that was named differs from that of a fresh export."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from pillsnap.export.graphs import Kind
from pillsnap.report.models.values import Count, Natural, Part, Sha256, one_of


class FreshExport(Part):
    """An export of the same checkpoint by the same exporter at the same opset"""

    exporter: Literal["torchscript", "dynamo"]
    opset: Natural
    sha256: Sha256
    reused: bool = Field(description="Whether an earlier run had made it")


class Difference(Part):
    kind: Annotated[str, one_of(get_args(Kind))]
    node: str = Field(description="Operator and name; empty for the graph itself")
    text: str


class Graph(Part):
    """Whether the file that --candidate names is the graph that a fresh export of the checkpoint
    is: operators, attributes, wiring, and initializers to the bit; names, order, notes and metadata
    aside. null where no file was named"""

    compared_with: FreshExport | None
    identical: bool | None
    count: Count | None = Field(description="Of all differences")
    differences: list[Difference] | None = Field(
        description="The first of them, in the order in which the file computes"
    )
    made_otherwise: list[str] | None = Field(
        description="Versions, or an input shape, that the file was exported with and the fresh "
        "export was not: a difference may come of them"
    )
    own: bool | None = Field(
        description="Whether the file claims to be pillsnap's own: without made_otherwise a "
        "difference is a breach then"
    )
    altered: bool | None = Field(
        description="Whether the graph is not, to the byte, the one that pillsnap's metadata in "
        "it have the SHA-256 of: where it is not identical to a fresh export, a breach; "
        "null where that is not known"
    )
    reason: str | None = Field(description="Why it was not compared, all else but `altered` null")
