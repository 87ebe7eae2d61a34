"""What shards consist of, where the driver says so."""

from __future__ import annotations

from pillsnap.config.cells import Shard
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.data.categories import Categories
from pillsnap.data.datasets import Sample
from pillsnap.gate.cluster.jobs import Fetch, Job, given
from pillsnap.gate.plan import Plan


class ShippedPlan(Plan):
    """The samples that came with a job: labels and manifests are read once, on the driver.

    Attributes:
        job: the one that runs.
    """

    job: Job

    def __init__(self, config: Config, selection: Selection, fetch: Fetch) -> None:
        super().__init__(config, selection)
        self._fetch = fetch

    def of_shard(self, shard: Shard) -> list[Sample]:
        return list(given(self.job.samples))

    def categories(self, stage: str) -> Categories | None:
        return self.job.categories

    def hard_pool(self, stage: str) -> list[Sample]:
        return list(given(self._fetch(self.job.pool)))
