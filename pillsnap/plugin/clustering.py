"""`--ray`: the items of a session wait for shards that a cluster runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pillsnap.core.errors import PillsnapError
from pillsnap.gate.cluster.controller import ClusterRun
from pillsnap.gate.cluster.pool import Pool
from pillsnap.plugin.state import State
from pillsnap.plugin.warnfilters import warnings_stay_warnings


@contextmanager
def on_cluster(session: pytest.Session, state: State) -> Iterator[None]:
    """Around the items of a session: their shards run on the cluster that --ray names, and no
    worker outlives them.

    Raises:
        pytest.UsageError: the cluster cannot be used.
    """
    address = session.config.option.ray
    if address is None or state.ledger is None or not state.ledger.expected:
        yield
        return
    shards = [state.ledger.shard_of(item.nodeid) for item in session.items]
    with warnings_stay_warnings():
        try:
            pool = Pool(address)
        except PillsnapError as error:
            raise pytest.UsageError(str(error)) from None
    try:
        with warnings_stay_warnings():
            try:
                state.cluster = ClusterRun(state.run, pool)
                state.cluster.begin(shard for shard in shards if shard is not None)
            except PillsnapError as error:
                raise pytest.UsageError(str(error)) from None
        yield
    finally:
        with warnings_stay_warnings():
            pool.close(state.cluster.end() if state.cluster is not None else ())
