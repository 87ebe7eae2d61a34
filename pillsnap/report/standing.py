"""Whether the gate stands behind a file: what all reports that judged it come to.

The newest report decides. A breach of what the file answers outlasts later passes, of smaller modes
say, until data, configuration (tolerances are part of it) or checkpoint are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pillsnap.config.runtime import Runtime
from pillsnap.report.judgements import Judgement

PASSING = ("equivalent", "within_tolerance")


@dataclass(frozen=True)
class Standing:
    """Whether a file is approved on a provider; the report that passed it, or why none does."""

    approved: bool
    reason: str


def find_standing(
    judged: Sequence[Judgement],
    stage: str,
    provider: str,
    runtime: Runtime,
    weights: Mapping[str, str] | None,
) -> Standing:
    """Whether what was judged approves a file as a stage's model on a provider.

    A run that was broken off decides nothing but by its breaches; one in which ONNX Runtime
    optimised otherwise ran another graph.

    Args:
        runtime: how it will optimise.
        weights: SHA-256 of the files beside it that hold its weights, by name: with others it is
            another model. None: any, of a caller that takes no such file in the end.
    """
    off = tuple(sorted(runtime.disabled_optimizers))
    mine = [
        each
        for each in judged
        if weights in (None, each.weights)
        and each.stage == stage
        and (each.provider == provider or (each.provider is None and each.verdict == "breach"))
        and (each.whole or each.verdict == "breach")
        and each.level in (None, runtime.graph_optimization_level)
        and each.optimizers == off
    ]
    newest = max((each.started for each in mine), default=None)
    latest = [each for each in mine if each.started == newest]
    if not latest:
        for each in judged:
            if weights not in (None, each.weights):
                return Standing(False, f"{each.report}: of other weights in the files beside it")
        without = f" without {', '.join(off)}" if off else ""
        return Standing(False, f"no report of the gate has passed it on {provider}{without}")
    for each in latest:
        if each.verdict not in PASSING:
            return Standing(False, f"{each.report}: {each.cell}, {each.verdict}")
    for each in mine:
        if each.of_outputs and _stands(each, latest, mine):
            return Standing(
                False,
                f"{each.report}: {each.cell}, {each.verdict}, with the same data, configuration "
                "and checkpoint",
            )
    return Standing(True, latest[0].report)


def _stands(breach: Judgement, latest: Sequence[Judgement], mine: Sequence[Judgement]) -> bool:
    """Whether a breach is of what the newest report is of as well."""
    if any(
        each.cell == breach.cell
        and each.started > breach.started
        and None not in (each.fingerprint, breach.fingerprint)
        and each.fingerprint != breach.fingerprint
        for each in mine
    ):
        return False  # the images themselves are others by now
    return any(
        each.precision == breach.precision
        and all(
            None in pair or pair[0] == pair[1]
            for pair in zip(each.basis, breach.basis, strict=True)
        )
        for each in latest
    )
