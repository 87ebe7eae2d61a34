"""Golden bundles and cached arrays from elsewhere: a message or a new answer, never a traceback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pillsnap.core.arraycache import ArrayCache
from pillsnap.core.errors import DataError
from pillsnap.core.hashes import sha256_file, sha256_json
from pillsnap.gate.bundle import Bundle, write_manifest
from pillsnap.pipeline.transforms import ClassifyTransform, Geometry, LetterboxTransform
from tests.plugin.project import Project

TRANSFORMS = {
    "classification": ClassifyTransform(4, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0),
    "detection": LetterboxTransform(8, 8),
}
NAME = {stage: f"{stage}-smoke-00001" for stage in TRANSFORMS}
GEOMETRY = asdict(Geometry(0.5, 0, 1, 16, 12))


def write_bundle(folder: Path) -> Path:
    """A bundle of two stages with two samples each."""
    folder.mkdir()
    for stage, side, outputs in (("classification", 4, (2, 3)), ("detection", 8, (2, 21, 7))):
        scene = stage == "detection"
        facts = {
            "ids": ["a.png", "b.png"],
            "labels": [None, None] if scene else [0, 1],
            "boxes": [[[1, 0.5, 0.5, 0.1, 0.1]], None] if scene else [None, None],
            "contents": ["0" * 64, "1" * 64],
            "geometries": [GEOMETRY] * 2 if scene else [],
        }
        (folder / f"{NAME[stage]}.json").write_text(json.dumps(facts))
        np.save(folder / f"{NAME[stage]}.input.npy", np.ones((2, 3, side, side), np.float32))
        np.save(folder / f"{NAME[stage]}.output.npy", np.ones(outputs, np.float32))
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """A manifest that vouches for whatever lies there."""
    cells = [
        {
            "stage": stage,
            "mode": "smoke",
            "shards": [NAME[stage]],
            "transform": asdict(transform),
            "strides": [2, 4, 8] if stage == "detection" else [],
            "reference": {"checkpoint": "x.pt", "params_million": 1.5, "providers": ["torch:cpu"]},
        }
        for stage, transform in TRANSFORMS.items()
    ]
    write_manifest(folder, cells)


def use(folder: Path) -> None:
    """Read all of a bundle as a run does."""
    bundle = Bundle(folder)
    for stage in TRANSFORMS:
        samples = bundle.samples(stage, "smoke")
        reference = bundle.reference(stage, "smoke")
        for batch in bundle.load(samples, reference.reference.transform, 2):
            assert batch.array.shape[:2] == (2, 3)
            assert len(reference.outputs(batch)) == 2


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_bundle_of_our_own_is_read(bundle: Path) -> None:
    use(bundle)


def is_read(folder: Path) -> bool:
    """Whether a bundle is read; one that is not is refused with a message."""
    try:
        use(folder)
    except DataError:
        return False
    return True


WRONG: list[Any] = [None, "x", 7, -1, [], {}, [None], ["\0"], {"a": [[1]]}, True, 1e308, [[]]]
WRONG += [10**400, 2**40, [0, 0, 0], [0.5]]
CELL = ("stage", "mode", "shards", "sha256", "transform", "strides", "reference")


@pytest.mark.parametrize("stage", [0, 1], ids=TRANSFORMS)
@pytest.mark.parametrize("key", CELL)
def test_a_manifest_with_anything_in_a_cell(bundle: Path, key: str, stage: int) -> None:
    path = bundle / "manifest.json"
    whole = json.loads(path.read_text())
    read = []
    for value in WRONG:
        whole["cells"][stage][key] = value
        path.write_text(json.dumps(whole))
        read += [value] if is_read(bundle) else []
    assert read in ([], [[]], [{}])  # a classifier without strides, a reference without facts
    del whole["cells"][stage][key]
    path.write_text(json.dumps(whole))
    assert not is_read(bundle)


@pytest.mark.parametrize("key", ["checkpoint", "checkpoint_entry", "checkpoint_choice", "notes"])
def test_a_manifest_with_anything_in_what_is_said_of_the_checkpoint(bundle: Path, key: str) -> None:
    path = bundle / "manifest.json"
    whole = json.loads(path.read_text())
    read = []
    for value in WRONG:
        whole["cells"][0]["reference"][key] = value
        path.write_text(json.dumps(whole))
        read += [value] if is_read(bundle) else []
    assert read == ([[], ["\0"]] if key == "notes" else [None, "x"])


@pytest.mark.parametrize("stage", [0, 1], ids=TRANSFORMS)
def test_a_manifest_with_anything_in_a_transform(bundle: Path, stage: int) -> None:
    path = bundle / "manifest.json"
    whole = json.loads(path.read_text())
    good = whole["cells"][stage]["transform"]
    for key in (*good, "other"):
        read = []
        for value in WRONG:
            whole["cells"][stage]["transform"] = {**good, key: value}
            path.write_text(json.dumps(whole))
            read += [value] if is_read(bundle) else []
        fine: dict[str, list[Any]] = {"pad_value": [7], "mean": [[0, 0, 0]]}
        assert read == fine.get(key, [])


MANIFESTS: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "no cells": b'{"format": 1}',
    "cells of another kind": b'{"format": 1, "cells": {"a": 1}}',
    "cells that are a number": b'{"format": 1, "cells": 5}',
    "no cell": b'{"format": 1, "cells": []}',
    "cells that are none": b'{"format": 1, "cells": [1, null]}',
    "nested": b'{"format": 1, "cells": ' + b"[" * 100_000,
    "nested as deep as is read": b'{"format": 1, "cells": [' + b"[" * 800 + b"]" * 801 + b"}",
    "a number of a million digits": b'{"format": ' + b"1" * 1_000_000 + b"}",
    "not UTF-8": b'{"format": "\xff"}',
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_of_another_kind(bundle: Path, name: str) -> None:
    (bundle / "manifest.json").write_bytes(MANIFESTS[name])
    with pytest.raises(DataError):
        use(bundle)


def test_a_cell_twice(bundle: Path) -> None:
    path = bundle / "manifest.json"
    whole = json.loads(path.read_text())
    whole["cells"].append(whole["cells"][0])
    path.write_text(json.dumps(whole))
    with pytest.raises(DataError, match="each cell once"):
        use(bundle)


def test_a_shard_of_another_folder(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace(NAME["detection"], f"../bundle/{NAME['detection']}"))
    with pytest.raises(DataError, match="names of shards"):
        use(bundle)


@pytest.mark.parametrize("stage", TRANSFORMS)
@pytest.mark.parametrize("key", ["ids", "labels", "boxes", "contents", "geometries"])
def test_facts_of_another_kind(bundle: Path, key: str, stage: str) -> None:
    path = bundle / f"{NAME[stage]}.json"
    whole = json.loads(path.read_text())
    good = whole[key]
    more = [[[0, 1]], [[0.5, 0, 0, 0, 0]], [["x"] * 5], {**GEOMETRY, "ratio": 0}]
    entries = [[value, *good[1:]] for value in (*WRONG, *more)]
    read = []
    for values in (*WRONG, *entries, [*good, *good], good[:1]):
        path.write_text(json.dumps({**whole, key: values}))
        seal(bundle)
        read += [values] if values != good and is_read(bundle) else []
    firsts = [values[0] for values in read]
    fine: dict[str, list[Any]] = {"ids": ["x"], "labels": [None, 7], "boxes": [None, []]}
    assert all(first in fine.get(key, []) for first in firsts)
    path.write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
    seal(bundle)
    assert not is_read(bundle)


def npy(head: str) -> bytes:
    text = head.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


class Touch:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", saved(np.ones(3)))
    return file.getvalue()


HEAD = "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }"
ARRAYS: dict[str, bytes] = {
    "nothing": b"",
    "objects": saved(np.array([Touch()], dtype=object)),
    "a pickle": pickle.dumps(Touch()),
    "an archive": zipped(),
    "of terabytes": npy(HEAD % ("<f4", "2, 3, 1048576, 1048576")),
    "of more than all numbers": npy(HEAD % ("<f4", "9" * 400 + ",")),
    "negative": npy(HEAD % ("<f4", "-2, 3, 4, 4")),
    "of no known type": npy(HEAD % ("<f1", "2,")),
    "code": npy("__import__('os').mkdir('harm')"),
    "nested": npy("(" * 60_000),
    "of many axes": npy(HEAD % ("<f4", "1, " * 5000)),
    "a head that ends early": b"\x93NUMPY\x01\x00\xff\xff{",
    "version 3": b"\x93NUMPY\x03\x00\xff\xff\xff\x7f{",
    "float64": saved(np.ones((2, 3, 4, 4))),
    "other axes": saved(np.ones((2, 3, 5, 4), np.float32)),
    "one sample": saved(np.ones((1, 3, 4, 4), np.float32)),
    "in Fortran's order": saved(np.asfortranarray(np.ones((2, 3, 4, 4), np.float32))),
    "a scalar": saved(np.float32(1)),
    "none of it": saved(np.ones((0, 3, 4, 4), np.float32)),
    "text": saved(np.array(["x"])),
}


@pytest.mark.parametrize("part", ["input", "output"])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_another_kind(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (bundle / f"{NAME['classification']}.{part}.npy").write_bytes(ARRAYS[name])
    seal(bundle)
    with pytest.raises(DataError):
        use(bundle)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["manifest.json", f"{NAME['detection']}.output.npy"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_in_place_of_a_file(
    bundle: Path, name: str, make: Callable[[Path], None]
) -> None:
    (bundle / name).unlink()
    make(bundle / name)
    with pytest.raises(Exception, match=r"Not a regular file|Is a directory"):
        use(bundle)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1}'), 4),
        (
            lambda folder: (
                (folder / "manifest.json").unlink() or os.mkfifo(folder / "manifest.json")
            ),
            4,
        ),
        (lambda folder: (folder / f"{NAME['classification']}.json").write_text("{}"), 1),
    ],
    ids=["no cells", "a pipe", "no facts"],
)
def test_a_run_with_a_damaged_bundle_ends_with_a_message(
    project: Project, damage: Callable[[Path], object], code: int
) -> None:
    folder = write_bundle(project.path / "bundle")
    damage(folder)
    if code == 1:
        seal(folder)
    (project.path / "m.onnx").touch()
    options = ("--reference=bundle", "--candidate=classification=m.onnx")
    result = project.run("-m", "smoke", "--stage", "classification", *options, engine=None)
    assert result.ret == code
    shown = result.stdout.str() + result.stderr.str()
    assert "bundle" in shown
    assert "Traceback" not in shown


KEY = sha256_json("key")


def entry(folder: Path, content: bytes) -> Path:
    """An entry of the cache whose hash is right."""
    path = folder / KEY[:2] / f"{KEY}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hashlib.sha256(content).digest() + content)
    return path


@pytest.mark.parametrize("name", ARRAYS)
def test_a_wrong_entry_of_the_cache_is_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    entry(tmp_path / "cache", ARRAYS[name])
    wanted = np.full((2, 3), 5, np.float32)
    cache = ArrayCache(tmp_path / "cache", 1 << 20)
    for _ in range(2):
        found = cache.get_or_compute(KEY, wanted.copy, lambda array: array.shape == (2, 3))
        assert found.tolist() == wanted.tolist()
    path = tmp_path / "cache" / KEY[:2] / f"{KEY}.npy"
    assert sha256_file(path) == sha256_file(entry(tmp_path / "other", saved(wanted)))
    assert not (tmp_path / "harm").exists()


def test_a_pipe_in_the_cache_is_not_waited_for(tmp_path: Path) -> None:
    path = entry(tmp_path, b"")
    path.unlink()
    os.mkfifo(path)
    found = ArrayCache(tmp_path, 1 << 20).get_or_compute(KEY, lambda: np.ones(2))
    assert found.tolist() == [1, 1]


@pytest.mark.usefixtures("memory_limit")
def test_a_head_allocates_no_more_than_its_file(bundle: Path, tmp_path: Path) -> None:
    """Of 8 GiB, which a machine has and numpy would take."""
    claim = npy(HEAD % ("<f4", "2147483648,"))
    (bundle / f"{NAME['classification']}.input.npy").write_bytes(claim)
    seal(bundle)
    entry(tmp_path / "cache", claim)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError):
        use(bundle)
    ArrayCache(tmp_path / "cache", 1 << 20).get_or_compute(KEY, lambda: np.ones(2))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
