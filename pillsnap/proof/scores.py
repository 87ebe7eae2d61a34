"""Trials -> proof_report.json: how many faults were caught, by what, and how small they may be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config
from pillsnap.core.files import write_atomic
from pillsnap.core.printable import printable_json
from pillsnap.proof.catalogue import FAULTS
from pillsnap.proof.explain_faults import EXPLAINABLE
from pillsnap.proof.fault import GROUPS, Fault
from pillsnap.proof.healthy import HEALTHY, Healthy
from pillsnap.proof.stage_faults import STAGE_FAULTS

# The size that counts.
SIZE = "coverage"


def build_report(
    stages: Sequence[str],
    trials: Sequence[dict[str, Any]],
    healthy: Sequence[dict[str, Any]],
    smallest: Sequence[dict[str, Any]],
    located: Sequence[dict[str, Any]],
    staged: Sequence[dict[str, Any]],
    explained: Sequence[dict[str, Any]],
    inapplicable: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The whole report, of Trial.as_dict, find_alarms, Smallest.as_dict, the diagnosis' nodes by
    stage (stage, nodes, named), share_of, explain, and the faults that are none for these models
    (kind of the finding that is lacking, fault, stage, why).

    It is complete with every fault of the stages that are proven at both sizes under both profiles,
    every healthy export of them, every fault of one stage of a pipeline that has both, and every
    fault that an intervention undoes.
    """
    lacking = Counter(each["kind"] for each in inapplicable)
    whole = len(stages) == len(STAGES)
    counted = [trial for trial in trials if trial["size"] == SIZE]
    strict = [trial for trial in counted if trial["profile"] == "strict"]
    return {
        "complete": len(trials) == 4 * (_of(stages, FAULTS) - lacking["trial"])
        and len(healthy) == _of(stages, HEALTHY)
        and len(smallest) == len(stages) - lacking["smallest"]
        and len(located) == len(stages)
        and len(staged) == whole * len(STAGE_FAULTS) - lacking["staged"]
        and len(explained) == _of(stages, EXPLAINABLE) - lacking["explained"],
        "stages": list(stages),
        "faults": len(strict),
        "caught_strict": _caught(strict),
        "caught_practical": _caught(counted, "practical"),
        "caught_strict_smoke": _caught([t for t in trials if t["size"] == "smoke"], "strict"),
        "caught_practical_smoke": _caught([t for t in trials if t["size"] == "smoke"], "practical"),
        "healthy": len(healthy),
        "false_alarms": sum(bool(case["alarms"]) for case in healthy),
        "nodes": sum(each["nodes"] for each in located),
        "located": sum(each["named"] for each in located),
        "stage_faults": len(staged),
        "stages_right": sum(each["right"] for each in staged),
        "causes": len(explained),
        "causes_right": sum(each["right"] for each in explained),
        "smallest_weight_scale": {each["stage"]: each["of_any"] for each in smallest},
        "groups": [_group(group, counted) for group in GROUPS],
        "caught_by": _caught_by(strict),
        "uncaught": [
            {key: trial[key] for key in ("fault", "stage", "magnitude", "blind", "reason")}
            for trial in strict
            if not trial["caught"]
        ],
        "inapplicable": list(inapplicable),
        "trials": list(trials),
        "healthy_exports": list(healthy),
        "smallest_by_tensor": list(smallest),
        "located_by_stage": list(located),
        "stage_shares": list(staged),
        "causes_stated": list(explained),
    }


def _of(stages: Sequence[str], cases: Sequence[Fault] | Sequence[Healthy]) -> int:
    return sum(case.stage in stages for case in cases)


def _caught(trials: Sequence[dict[str, Any]], profile: str = "strict") -> int:
    return sum(trial["caught"] for trial in trials if trial["profile"] == profile)


def _group(group: str, trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    own = [trial for trial in trials if trial["group"] == group]
    return {
        "group": group,
        "faults": sum(trial["profile"] == "strict" for trial in own),
        "caught_strict": _caught(own),
        "caught_practical": _caught(own, "practical"),
        "caught_by": _caught_by([trial for trial in own if trial["profile"] == "strict"]),
    }


def _caught_by(trials: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many faults each figure caught; most first. A fault counts for each that caught it."""
    names = [name for trial in trials for name in trial["figures"]]
    counts = {name: names.count(name) for name in names}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def write_report(report: dict[str, Any], config: Config) -> Path:
    """{paths.exp_dir}/export/proof_report.json, whole or not at all."""
    path = config.out_dir / "proof_report.json"
    text = printable_json(json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)) + "\n"
    write_atomic(path, text.encode())
    return path
