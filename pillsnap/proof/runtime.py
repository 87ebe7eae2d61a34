"""Faults of running and shipping: the right graph in the wrong place, or the wrong file in it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from pillsnap.config.cells import STAGES
from pillsnap.core.files import point_latest
from pillsnap.core.hashes import canonical_json
from pillsnap.data.maps import read_class_map
from pillsnap.engines import Batch
from pillsnap.engines.onnxruntime.libraries import find_missing
from pillsnap.export.onnxfile import PREFIX
from pillsnap.pipeline.transforms import ClassifyTransform
from pillsnap.proof.fault import CLASSIFIER, Bench, Injection, NotApplicable, fault
from pillsnap.proof.onnx_edits import change
from pillsnap.proof.roles import middle
from pillsnap.proof.trial import proven_stages
from pillsnap.proof.wrong_preprocessing import other_mean


def restamped(bench: Bench, **entries: str) -> Injection:
    """The healthy graph with other metadata."""
    model = bench.model()
    for entry in model.metadata_props:
        name = entry.key.removeprefix(PREFIX)
        entry.value = entries.get(name, entry.value)
    return Injection(bench.save(model))


@fault("runtime", "TensorRT was asked for and is not there", refusal="tensorrt")
def provider_fell_back(bench: Bench) -> Injection:
    if not find_missing("tensorrt"):
        raise NotApplicable("TensorRT is there")
    return Injection(provider="tensorrt")


@fault(
    "runtime",
    "latest_ leads to an export of an earlier checkpoint, its weights 1e-7 away",
    refusal="checkpoint_sha256",
)
def stale_latest(bench: Bench) -> Injection:
    model = bench.model()
    change(model, middle(model), lambda w: w * (1 + 1e-7))
    for entry in model.metadata_props:
        if entry.key == PREFIX + "checkpoint_sha256":
            entry.value = "0" * 64
    latest = bench.folder / f"latest_{bench.stage}.onnx"
    point_latest(latest, bench.save(model))
    return Injection(latest)


@fault(
    "runtime",
    "the file was made with two names of the class map swapped",
    CLASSIFIER,
    refusal="class_map_sha256",
)
def wrong_class_map(bench: Bench) -> Injection:
    right = bench.config.data.class_map
    classes = bench.config.classification.num_classes
    codes = {} if right is None else read_class_map(right, classes)
    if len(codes) < 2:
        raise NotApplicable("there is no class map with two names to swap")
    first, second = list(codes)[:2]
    codes[first], codes[second] = codes[second], codes[first]
    other = bench.folder / "class_map.json"
    other.write_text(json.dumps(codes))
    data = replace(bench.config.data, class_map=other)
    return Injection(bench.export(replace(bench.config, data=data)))


@fault(
    "runtime",
    "the file is shipped with another common mean",
    CLASSIFIER,
    refusal="preprocess.mean",
)
def shipped_with_other_mean(bench: Bench) -> Injection:
    entries = {entry.key: entry.value for entry in bench.model().metadata_props}
    transform = json.loads(entries[PREFIX + "preprocess"])
    assert isinstance(bench.transform, ClassifyTransform)
    transform["mean"] = list(other_mean(bench.transform).mean)
    return restamped(bench, preprocess=canonical_json(transform))


@fault("runtime", "the file is replaced while it is measured", refusal="of another model")
def report_of_another_model(bench: Bench) -> Injection:
    path = bench.save(bench.model())

    def say(output: Batch) -> Batch:
        model = bench.model()
        bench.save(change(model, middle(model), lambda w: w * 1.5))
        return output

    return Injection(path, say=say)


@fault("runtime", "answers of a batch in another order")
def answers_out_of_order(bench: Bench) -> Injection:
    return Injection(say=lambda output: np.roll(output, 1, axis=0))


@fault("runtime", "the file of the other stage", refusal="this model is for")
def file_of_another_stage(bench: Bench) -> Injection:
    (other,) = set(STAGES) - {bench.stage}
    if other not in proven_stages(bench.config):
        raise NotApplicable(f"there is no {other} checkpoint to export")
    return Injection(bench.export(bench.config, other))
