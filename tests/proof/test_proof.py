"""`pytest -m proof`: every fault of the catalogue, healthy exports, and the smallest fault seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.compare.verdict import GRAPH
from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config
from pillsnap.plugin.scoreboard import HEALTHY as HEALTHY_KEY
from pillsnap.plugin.scoreboard import SMALLEST, TRIAL
from pillsnap.proof.catalogue import FAULTS
from pillsnap.proof.fault import Fault, NotApplicable
from pillsnap.proof.healthy import HEALTHY, Healthy, find_alarms
from pillsnap.proof.smallest import find_smallest
from pillsnap.proof.trial import SIZES, try_fault
from tests.proof.conftest import MakeBench, Record, require, skip_inapplicable

pytestmark = [pytest.mark.proof, pytest.mark.slow]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_is_caught(
    fault: Fault,
    proven: Config,
    bench_of: MakeBench,
    record: Record,
    threads: int,
) -> None:
    bench = bench_of(fault.stage)
    try:
        trials = [trial for size in SIZES for trial in try_fault(fault, bench, size, threads)]
    except NotApplicable as error:
        skip_inapplicable(error, "trial", fault.stage, fault.name, proven, record)
    for trial in trials:
        record(TRIAL, trial.as_dict())
    (strict,) = [t for t in trials if (t.size, t.profile) == ("coverage", "strict")]
    assert strict.caught, strict.reason
    # What no figure can see must stay named: seeing it after all fails too.
    assert not (fault.blind and proven.demo) or strict.figures == (GRAPH,)
    refused = strict.figures == ("refused",)
    assert refused is (fault.refusal is not None), strict.reason
    assert fault.refusal is None or fault.refusal in strict.reason


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.id)
def test_a_healthy_export_raises_no_alarm(
    case: Healthy, proven: Config, folder: Path, record: Record, threads: int
) -> None:
    require(proven, case.stage)
    found = find_alarms(case, proven, folder, threads)
    record(HEALTHY_KEY, found)
    assert found["samples"] > 0
    assert found["alarms"] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_weight_tensor_off_by_a_percent_is_far_above_what_is_seen(
    stage: str, proven: Config, bench_of: MakeBench, record: Record, threads: int
) -> None:
    try:
        found = find_smallest(bench_of(stage), threads)
    except NotApplicable as error:
        skip_inapplicable(error, "smallest", stage, "the smallest scale", proven, record)
    record(SMALLEST, found.as_dict())
    assert found.of_any is not None
    assert found.of_any < 1e-2
