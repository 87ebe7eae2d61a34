"""A cell that was judged: its verdict, its figures and what its shards said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pillsnap.compare.accuracy import Accuracy
from pillsnap.compare.figures import Metrics
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.verdict import Verdict
from pillsnap.config.cells import Cell
from pillsnap.data.datasets import Dataset

SEVERITY = ("equivalent", "within_tolerance", "inconclusive", "breach")


@dataclass(frozen=True)
class CellResult:
    """A judged cell.

    Attributes:
        profile: the tolerance profile it was held to.
        outcomes: of its shards, in order.
        accuracy: how good the reference is; None where there are no figures.
        performance: speed and memory of the candidate; None where there are no figures.
        speeds: performance by kind of node, where several kinds of a cluster have timed it.
        measured: samples that both engines answered for; 0 where there are no figures.
        data: what its samples were drawn from; None where that is not here.
        fingerprint: SHA-256 over ids, files and labels of those samples, in order.
    """

    cell: Cell
    verdict: Verdict
    profile: str
    outcomes: tuple[Outcome, ...]
    measured: int = 0
    fingerprint: str | None = None
    metrics: Metrics = field(default_factory=dict)
    worst: tuple[str, ...] = ()
    performance: Metrics | None = None
    speeds: Mapping[str, Metrics] = field(default_factory=dict)
    data: Dataset | None = None
    accuracy: Accuracy | None = None

    @property
    def seconds(self) -> float:
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def samples(self) -> int:
        """How many were looked at, readable or not."""
        return sum(outcome.samples for outcome in self.outcomes)

    @property
    def exactness(self) -> dict[str, Any] | None:
        """Outcome.exactness of the first shard."""
        found = (outcome.exactness for outcome in self.outcomes)
        return next((each for each in found if each is not None), None)

    @property
    def quantized(self) -> dict[str, Any] | None:
        """What the candidate's file says of its conversion; None for one in float32."""
        made = (outcome.candidate.get("quantized") for outcome in self.outcomes)
        return next((facts for facts in made if facts is not None), None)

    @property
    def execution(self) -> dict[str, Any] | None:
        """Providers, options, placement and precision of the candidate's session; None without one.

        An engine need not prove the precision.
        """
        keys = ("providers", "provider_options", "placement", "precision")
        found = (outcome.candidate for outcome in self.outcomes if "placement" in outcome.candidate)
        return next(({key: facts.get(key) for key in keys} for facts in found), None)

    @property
    def layout(self) -> dict[str, Any] | None:
        """How the candidate's file is read, see gate/layouts.py; None of pillsnap's own form."""
        found = (outcome.candidate.get("layout") for outcome in self.outcomes)
        return next((each for each in found if each is not None), None)

    @property
    def batching(self) -> dict[str, Any] | None:
        """At which sizes the candidate ran, see Outcome; None where it was run at none but its
        own."""
        return next((each.batching for each in self.outcomes if each.batching is not None), None)

    @property
    def graph(self) -> dict[str, Any] | None:
        """How the named file's graph differs from a fresh export's; None where none was named."""
        return next((each.graph for each in self.outcomes if each.graph is not None), None)

    @property
    def unreadable(self) -> dict[str, str]:
        return {key: why for outcome in self.outcomes for key, why in outcome.unreadable.items()}

    @property
    def severity(self) -> int:
        return SEVERITY.index(self.verdict.name)
