"""`pytest -m proof`: the diagnosis names the node and the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import onnx
import pytest

from pillsnap.compare.tasks import read_samples
from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config
from pillsnap.diagnose import FreshExports
from pillsnap.diagnose.layers import locate
from pillsnap.engines import Batch
from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint
from pillsnap.engines.torch.model import infer_torch
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.preprocess import preprocess
from pillsnap.plugin.scoreboard import EXPLAINED, LOCATED, STAGED
from pillsnap.proof.explain_faults import EXPLAINABLE, explain, subject_of
from pillsnap.proof.fault import Fault, NotApplicable
from pillsnap.proof.stage_breaks import Both
from pillsnap.proof.stage_faults import STAGE_FAULTS, StageFault, share_of
from pillsnap.proof.trial import proven_stages
from tests.diagnose.node_faults import draw, inject
from tests.proof.conftest import MakeBench, Record, skip_inapplicable

pytestmark = [pytest.mark.proof, pytest.mark.slow]

NODES = 50

Network = Callable[[Batch], Batch]


@pytest.fixture(scope="module")
def fresh(proven: Config) -> Iterator[FreshExports]:
    with FreshExports(proven) as exports:
        yield exports


@pytest.fixture(scope="module")
def networks(proven: Config, threads: int) -> dict[str, Network]:
    """The trained networks by stage."""
    import torch

    torch.set_num_threads(threads)  # workers that all take every core get in each other's way
    return {
        stage: partial(
            infer_torch,
            build_model(proven, stage, find_best_checkpoint(proven, stage)).module,
        )
        for stage in proven_stages(proven)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_nine_of_ten_faulty_nodes_are_named(
    stage: str, bench_of: MakeBench, fresh: FreshExports, record: Record, threads: int
) -> None:
    """One weight or output scaled by 1.05, of nodes drawn over all convolutions, products, sums."""
    bench = bench_of(stage)
    exported = bench.model()
    healthy = onnx.load(fresh.like(stage, exported))
    sample = read_samples(bench.config, stage)[0]
    images = np.stack([preprocess(read_image(sample.path), bench.transform)])
    missed = []
    faults = draw(exported, NODES, seed=5)
    for fault in faults:
        found = locate(inject(exported, fault), healthy, None, images, threads=threads)
        place = found.places[0] if found is not None and found.places else None
        if place is None or fault.node not in place.bracket or place.bracket_size > 3:
            missed.append(fault)
    named = len(faults) - len(missed)
    record(LOCATED, {"stage": stage, "nodes": len(faults), "named": named})
    assert named >= 0.9 * len(faults), missed


@pytest.mark.parametrize("fault", STAGE_FAULTS, ids=lambda fault: f"{fault.guilty}-{fault.name}")
def test_the_stage_that_was_broken_has_most_of_the_difference(
    fault: StageFault,
    bench_of: MakeBench,
    fresh: FreshExports,
    networks: dict[str, Network],
    record: Record,
    threads: int,
    proven: Config,
) -> None:
    benches = {stage: bench_of(stage) for stage in STAGES}
    detector, classifier = (
        subject_of(
            benches[stage],
            benches[stage].healthy,
            [
                (s.id, read_image(s.path))
                for s in read_samples(benches[stage].config, stage)[:count]
            ],
            networks[stage],
            threads,
        )
        for stage, count in (("detection", 2), ("classification", 1))
    )
    healthy = onnx.load(fresh.like("detection", benches["detection"].model()))
    both, folder = Both(detector, classifier), benches["detection"].folder
    try:
        found = share_of(fault, both, healthy, folder)
    except NotApplicable as error:
        skip_inapplicable(error, "staged", fault.guilty, fault.name, proven, record)
    record(STAGED, found)
    assert found["right"], found


@pytest.mark.filterwarnings("ignore")  # torch's, about training mode
@pytest.mark.parametrize("fault", EXPLAINABLE, ids=lambda fault: fault.id)
def test_the_cause_that_is_stated_is_the_right_one(
    fault: Fault,
    bench_of: MakeBench,
    fresh: FreshExports,
    networks: dict[str, Network],
    record: Record,
    threads: int,
    proven: Config,
) -> None:
    bench = bench_of(fault.stage)
    try:
        found = explain(fault, bench, fresh, networks[fault.stage], threads)
    except NotApplicable as error:
        skip_inapplicable(error, "explained", fault.stage, fault.name, proven, record)
    record(EXPLAINED, found)
    assert found["right"], found["in_words"]
