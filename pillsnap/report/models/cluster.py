"""What the report says of a run on a Ray cluster."""

from __future__ import annotations

from pydantic import Field, SkipValidation

from pillsnap.report.models.execution import Execution, Performance
from pillsnap.report.models.values import Count, Natural, Part


class CellOfNode(Part):
    """Shards of a cell that a node has run."""

    shards: Natural
    execution: SkipValidation[Execution | None] = Field(
        description="Where the candidate really ran on this node; null for an engine without "
        "providers"
    )


class Node(Part):
    name: str
    id: str = Field(description="Ray's")
    cpus: Count = Field(description="That Ray may give away")
    gpus: Count
    lost: bool = Field(description="Whether it was gone when the run ended")
    unfit: str | None = Field(description="Why it was not used, or no more")
    cpu: str | None = Field(description="null where no worker has started")
    gpu: str | None
    differences: list[str] = Field(
        description="Python, packages and code of pillsnap that are others than the driver's"
    )
    shards: Count = Field(description="That it has run; of one that was lost, the last run")
    cells: dict[str, CellOfNode]


class Loss(Part):
    """A worker that was gone while it ran a shard, which was run again, four times at the most"""

    shard: str
    node: str
    reason: str


class Cluster(Part):
    """The nodes that shards ran on; null of a run on one machine"""

    ray: str = Field(description="Its version")
    nodes: list[Node]
    losses: list[Loss]
    speeds: dict[str, dict[str, Performance]] = Field(
        description="By cell and kind of node (its processor, or its GPU), of cells that several "
        "kinds have timed: performance of the cell is of the kind that ran its first shard, and "
        "budgets are judged for each kind"
    )
