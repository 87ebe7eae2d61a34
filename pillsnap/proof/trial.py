"""One fault through the whole gate, at one size, under each profile."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import find_breaches
from pillsnap.config.cells import CLASSIFICATION, DETECTION, STAGES
from pillsnap.config.figures import EXACTNESS, FIGURES
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError, first_line
from pillsnap.engines.torch.checkpoints import checkpoint_paths, stage_transform
from pillsnap.export import export_onnx
from pillsnap.gate.ledger import Ledger
from pillsnap.gate.run import GateRun
from pillsnap.proof.engine import ENGINE, Desk, register_faulty
from pillsnap.proof.fault import Bench, Fault, Injection, NotApplicable

SIZES = ("smoke", "coverage")
PROFILES = ("strict", "practical")

# The most that coverage takes of a stage: there are hundreds of trials, and scenes take a hundred
# times as long as photos.
COVERAGE = {CLASSIFICATION: 480, DETECTION: 64}

# Figures of what is made of the outputs: of a reference without signal they say nothing.
_BY_SIGNAL = {each.name for each in FIGURES if each.limited_by != EXACTNESS and not each.part}


@dataclass(frozen=True)
class Trial:
    """What the gate said of one fault.

    Attributes:
        size: smoke or coverage.
        profile: strict or practical.
        figures: names of those that caught it; ("refused",) where the gate let it not come to
            figures.
        reason: the gate's, in its first line; for a fault that passed, its figures.
    """

    fault: str
    group: str
    stage: str
    magnitude: str
    blind: str | None
    size: str
    profile: str
    samples: int
    verdict: str
    caught: bool
    figures: tuple[str, ...]
    reason: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "figures": list(self.figures)}


def proof_config(config: Config, stage: str, out_dir: Path) -> Config:
    """A configuration with the sizes of the proof, and a place of its own for exports."""
    most = min(config.compare.max_total, COVERAGE[stage])
    compare = replace(config.compare, hard_per_bin=0, max_total=most)
    return replace(config, export=replace(config.export, compare=compare, out_dir=out_dir))


def proven_stages(config: Config) -> tuple[str, ...]:
    """The stages that have a checkpoint and validation data."""
    val = config.data.val
    data = {CLASSIFICATION: val.single, DETECTION: val.combo}
    return tuple(
        stage
        for stage in STAGES
        if data[stage] is not None
        and any(path.exists() for path in checkpoint_paths(config, stage))
    )


def make_bench(config: Config, stage: str, folder: Path) -> Bench:
    """A healthy export of a stage, made or found again in config's folder of exports."""
    folder.mkdir(parents=True, exist_ok=True)
    return Bench(
        config, stage, stage_transform(config, stage), export_onnx(config, stage).path, folder
    )


def try_fault(fault: Fault, bench: Bench, size: str, threads: int) -> list[Trial]:
    """Inject a fault and judge it at a size, under every profile.

    Raises:
        NotApplicable: it is none for this model, or nothing differs on these data.
    """
    try:
        injection = fault.inject(bench)
    except NotApplicable:
        raise
    except PillsnapError as error:
        raise NotApplicable(f"the fault cannot be made: {first_line(str(error))}") from error
    judged = judge_injection(injection, bench, size, threads, graph=fault.blind is not None)
    return [
        Trial(
            fault.name,
            fault.group,
            fault.stage,
            fault.magnitude,
            fault.blind,
            size,
            profile,
            result.samples,
            result.verdict.name,
            bool(caught_by(result)),
            caught_by(result),
            reason_of(result),
            round(result.seconds, 3),
        )
        for profile, result in judged.items()
    ]


def judge_injection(
    injection: Injection, bench: Bench, size: str, threads: int, *, graph: bool = False
) -> dict[str, CellResult]:
    """The gate's judgement of a broken candidate by profile; both are of the same records.

    Args:
        graph: whether its graph counts. It tells every edit of pillsnap's own files, whatever the
            figures can see.

    Raises:
        NotApplicable: at coverage size, not one image and not one output differs.
    """
    config = injection.config or bench.config
    desk = Desk(threads)
    register_faulty(injection, desk)
    selection = Selection(
        stages=(bench.stage,),
        engines=(ENGINE,),
        providers=(injection.provider,),
        precisions=(injection.precision,),
        candidates={bench.stage: injection.file or bench.healthy},
    )
    run = GateRun(
        config, selection, threads=threads, run_dir=bench.folder / f"run-{size}", load=desk.load
    )
    shards = [shard for shard in run.plan.shards() if shard.cell.mode == size]
    outcomes = [run.run(shard).as_dict() for shard in shards]
    results = {}
    for profile in PROFILES:
        ledger = Ledger(replace(run, config=_with_profile(config, profile)))
        ledger.expect(f"[{shard.id}]" for shard in shards)
        for outcome in outcomes:
            ledger.add(outcome if graph else {**outcome, "graph": None})
        (results[profile],) = ledger.results()
    around = injection.file is None and (injection.see or injection.say)
    if around and size == SIZES[-1] and not desk.changed and results["strict"].metrics:
        raise NotApplicable("not one of these images and outputs differs by it")
    return results


def _with_profile(config: Config, profile: str) -> Config:
    tolerances = replace(config.compare.tolerances, profile=profile)  # type: ignore[arg-type]
    compare = replace(config.compare, tolerances=tolerances)
    return replace(config, export=replace(config.export, compare=compare))


def caught_by(result: CellResult) -> tuple[str, ...]:
    """Names of the figures outside the profile, a reference without signal or not; ("refused",) for
    a candidate that came to no figures."""
    if result.verdict.failed and not result.metrics:
        return ("refused",)
    return tuple(dict.fromkeys(breach.figure for breach in result.verdict.breaches))


def reason_of(result: CellResult) -> str:
    """The gate's reason in one line; of a candidate that passed, how far its figures are."""
    if caught_by(result):
        return first_line(result.verdict.reason)
    values = ((figure.name, result.metrics.get(figure.name)) for figure in FIGURES)
    return ", ".join(f"{name} {value:.2g}" for name, value in values if value is not None)


def alarms(result: CellResult, config: Config) -> list[str]:
    """What the gate would say against a healthy export, signal or not: figures outside strict, or
    a cell without figures. Of a reference without signal what shows rounding alone: which boxes
    its NMS keeps, and which classes it names, is chance."""
    if not result.metrics:
        return [result.verdict.reason]
    found = find_breaches(result.metrics, config.compare.tolerances.strict)
    if result.verdict.name == "inconclusive":
        found = tuple(each for each in found if each.figure not in _BY_SIGNAL)
    return [str(each) for each in found]
