"""What a file's metadata say it was made from and for, held against what it is verified for.

Thresholds, NMS, preprocessing, class order and the trained weights leave no trace in a tensor
comparison when both sides share them: whoever ships the file goes by its metadata.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pillsnap.config.settings import Config
from pillsnap.core.errors import WrongCandidate
from pillsnap.core.hashes import canonical_json, sha256_file
from pillsnap.engines import Transform
from pillsnap.engines.torch.checkpoints import find_best_checkpoint, stage_transform
from pillsnap.export.forms import FORMS
from pillsnap.export.onnxfile import PREFIX, Exported


def has_claims(exported: Exported) -> bool:
    """Whether pillsnap wrote the file's metadata; a file made elsewhere claims nothing."""
    return PREFIX + "checkpoint_sha256" in exported.metadata


def require_fit(
    exported: Exported,
    config: Config,
    stage: str,
    checkpoint_sha256: str | None = None,
    transform: Transform | None = None,
    checkpoint_entry: str | None = None,
) -> None:
    """Check that a file was made from the stage's checkpoint and for this configuration.

    A file that claims nothing is not held to it; batches are filled up to its size.

    Args:
        checkpoint_sha256: of the reference's, where that is known; else the configured file's.
        transform: the reference's preprocessing, where that is known; else the configured one.
        checkpoint_entry: of the weights that the reference took, where that is known.

    Raises:
        WrongCandidate: its metadata say otherwise, every entry that differs being named; or its
            batch size is fixed where export.dynamic_axes asks for a free one, which no comparison
            in batches of that size would show.
        PillsnapError: the checkpoint or the class map cannot be read.
    """
    if not has_claims(exported):
        return
    if config.export.dynamic_axes and not exported.dynamic_axes:
        raise WrongCandidate(
            "the candidate takes batches of one size only",
            where=exported.path,
            got="a fixed batch size",
            expected="a free one (export.dynamic_axes: true)",
            hint="export it with a free batch size, or set export.dynamic_axes: false and "
            "export.compare.batch_size to the file's",
        )
    wanted = {
        "checkpoint_sha256": checkpoint_sha256 or sha256_file(find_best_checkpoint(config, stage)),
        "num_classes": str(getattr(config, stage).num_classes),
        **expected_use(config, stage, transform),
        **FORMS[stage].claims(config),
    }
    # Files of earlier versions do not say which they were made from.
    if checkpoint_entry and exported.metadata.get(PREFIX + "checkpoint_entry"):
        wanted["checkpoint_entry"] = checkpoint_entry
    found = _flat({name: exported.metadata.get(PREFIX + name, "") for name in wanted})
    expected = _flat(wanted)
    differing = [key for key in expected | found if found.get(key) != expected.get(key)]
    if differing:
        raise WrongCandidate(
            "the candidate was made for something else: " + ", ".join(differing),
            where=exported.path,
            got="; ".join(f"{key} {_shown(found.get(key))}" for key in differing),
            expected="; ".join(f"{key} {_shown(expected.get(key))}" for key in differing),
            hint="export it again, or verify it with the configuration it was made for",
        )


def expected_use(config: Config, stage: str, transform: Transform | None = None) -> dict[str, str]:
    """The metadata of an export that say what its input and output mean: the preprocessing, and a
    classifier's class map where there is one (a bundle stands in for the data without)."""
    preprocess = describe_preprocess(transform or stage_transform(config, stage))
    return {"preprocess": preprocess, **FORMS[stage].use(config)}


def describe_preprocess(transform: Transform) -> str:
    """A preprocessing as it stands in metadata: JSON, its keys sorted. The crop mode center
    is left out, as in files that were written before there were others."""
    facts = asdict(transform)
    if facts.get("crop_mode") == "center":
        del facts["crop_mode"]
    return canonical_json(facts)


def made_otherwise(exported: Exported, fresh: Exported) -> list[str]:
    """What a file of pillsnap's was traced by, or with, that a fresh export is not: such as "torch
    2.9.1, here 2.14.1"."""
    names = ("versions", "input_shape")
    found, here = (
        _flat({name: each.metadata.get(PREFIX + name, "") for name in names})
        for each in (exported, fresh)
    )
    return [
        f"{key.removeprefix('versions.')} {_shown(found.get(key))}, here {_shown(here.get(key))}"
        for key in here | found
        if found.get(key) != here.get(key)
    ]


def _flat(entries: dict[str, str]) -> dict[str, Any]:
    """Entries by name, a JSON object's values each by their own: "nms.iou_threshold"."""
    found: dict[str, Any] = {}
    for name, text in entries.items():
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if isinstance(value, dict):
            found |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            found[name] = text
    return found


def _shown(value: Any) -> str:
    """A value in few characters; hashes by their first twelve."""
    if value in (None, ""):
        return "nothing"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
