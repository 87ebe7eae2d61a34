"""How the graph of a file that was named differs from that of a fresh export."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, SkipValidation

from pillsnap.export.graphs import Kind
from pillsnap.report.models.values import Count, Flag, Natural, Part, Sha256, Text, Texts, one_of


class FreshExport(Part):
    """An export of the same checkpoint by the same exporter at the same opset"""

    exporter: Annotated[Literal["torchscript", "dynamo"], SkipValidation]
    opset: Natural
    sha256: Sha256
    reused: Flag = Field(description="Whether an earlier run had made it")


class Difference(Part):
    kind: Annotated[Text, one_of(get_args(Kind))]
    node: Text = Field(description="Operator and name; empty for the graph itself")
    text: Text


class Graph(Part):
    """Whether the file that --candidate names is the graph that a fresh export of the checkpoint
    is: operators, attributes, wiring, and initializers to the bit; names, order, notes and metadata
    aside. null where no file was named"""

    compared_with: FreshExport | None
    identical: Flag | None
    count: Count | None = Field(description="Of all differences")
    differences: list[Difference] | None = Field(
        description="The first of them, in the order in which the file computes"
    )
    made_otherwise: Texts | None = Field(
        description="Versions, or an input shape, that the file was exported with and the fresh "
        "export was not: a difference may come of them"
    )
    own: Flag | None = Field(
        description="Whether the file claims to be pillsnap's own: without made_otherwise a "
        "difference is a breach then"
    )
    reason: Text | None = Field(description="Why it was not compared, all else null")
