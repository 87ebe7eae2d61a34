"""Validation data behind URLs: the same samples as on a disk, and no image is fetched for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem

from pillsnap.compare.loading import load_batches
from pillsnap.config.load import load_config
from pillsnap.config.settings import Config, config_sha256
from pillsnap.core.errors import ConfigError, DataError
from pillsnap.core.filesystems import RemoteError
from pillsnap.core.localcopies import Origin
from pillsnap.core.remote import RemotePath
from pillsnap.data.calibration import read_calibration
from pillsnap.data.datasets import SINGLES, Dataset, Source, read_dataset
from pillsnap.data.sampling import select
from pillsnap.data.scenes import SCENES
from pillsnap.export.quantize.calibration import choose_images
from pillsnap.pipeline.images import read_bytes
from pillsnap.pipeline.transforms import ClassifyTransform

IMAGE = b"an image "
YOLO = "0 0.5 0.5 0.25 0.25\n"
COCO = {
    "categories": [{"id": 1, "name": "pill"}],
    "images": [
        {"id": n, "file_name": f"{n}.png" if n < 2 else f"더/{n}.png", "width": 8, "height": 8}
        for n in range(3)
    ],
    "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 1, 2, 2]}],
}
FILES = {
    **{f"single/K-{code}/{n}.png": f"{code} {n * 'x'}" for code in (1, 2) for n in range(3)},
    # Three of one size, two of them alike.
    **{f"single/K-3/{n}.png": text for n, text in enumerate(("one", "two", "one"))},
    **{"single/.hidden/1.png": "", "single/K-1/.2.png": "", "single/K-1/3.heic": "heic"},
    "list.csv": "image_path,mapping_code\nsingle/K-1/0.png,K-1\n./single\\K-2\\1.png,K-2\n",
    "map.json": json.dumps({"K-1": 0, "K-2": 1, "K-3": 2}),
    **{f"coco/images/{name}.png": name for name in ("0", "1", "더/2")},
    **{"coco/labels/0.txt": YOLO, "coco/labels/더/2.txt": YOLO * 2, "coco/coco.json": "{}"},
    "coco/coco.json": json.dumps(COCO),
    "coco/data.yaml": "path: ..\nval: coco/images\nnames: [pill]\n",
    "coco/list.yaml": "val: val.txt\nnames: {0: pill}\n",
    "coco/val.txt": "./images/0.png\nimages/더/2.png\n",
}
SINGLE: dict[str, Any] = {"single": "single"}
COMBO = "coco/images"
LAYOUTS: dict[str, tuple[Source, dict[str, Any]]] = {
    "folders": (SINGLES, {"val": SINGLE, "class_map": "map.json"}),
    "folders without a map": (SINGLES, {"val": SINGLE}),
    "manifest": (SINGLES, {"val": {"single": "list.csv"}, "class_map": "map.json"}),
    "images alone": (SCENES, {"val": {"combo": {"images": COMBO}}}),
    "YOLO": (SCENES, {"val": {"combo": {"images": COMBO, "labels": "coco/labels"}}}),
    "COCO": (SCENES, {"val": {"combo": {"images": COMBO, "labels": "coco/coco.json"}}}),
    "data.yaml": (SCENES, {"val": {"combo": "coco/data.yaml"}}),
    "data.yaml of a list": (SCENES, {"val": {"combo": "coco/list.yaml"}}),
}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Any]:
    """A file system that holds what tmp_path/data does."""
    files = fsspec.filesystem("memory")
    for name, text in FILES.items():
        content = IMAGE + text.encode() if "images/" in name or "single/" in name else text.encode()
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files.pipe(f"/up/{name}", content)
    yield files
    files.rm("/", recursive=True)


def prefixed(settings: Any, prefix: str) -> Any:
    if isinstance(settings, dict):
        return {key: prefixed(value, prefix) for key, value in settings.items()}
    return prefix + settings


def load(folder: Path, data: dict[str, Any], prefix: str) -> Config:
    settings = {"paths": {"exp_dir": "exp"}, "classification": {"num_classes": 3}}
    settings |= {"data": prefixed(data, prefix)}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return load_config(path, {})


def facts(found: Dataset) -> dict[str, Any]:
    samples = [(each.id, each.label, each.boxes, each.size) for each in found.samples]
    categories = found.categories and astuple(replace(found.categories, source=Path()))
    return {**vars(found), "samples": samples, "categories": categories}


def fetched_images(folder: Path) -> int:
    copies = (folder / "exp/cache/remote").glob("*/*.copy")
    return sum(path.read_bytes().startswith(IMAGE) for path in copies)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_samples_are_those_of_the_same_data_here(layout: str, memory: Any, tmp_path: Path) -> None:
    source, data = LAYOUTS[layout]
    local = load(tmp_path, data, "data/")
    expected = read_dataset(local, source)
    remote = load(tmp_path, data, "memory://up/")
    found = read_dataset(remote, source)
    assert facts(found) == facts(expected)
    assert len(found.samples) > 1
    assert fetched_images(tmp_path) == 0
    assert {str(each.path) for each in found.samples} == {
        f"memory://up/{each.path.relative_to(tmp_path / 'data')}" for each in expected.samples
    }
    compare = replace(local.compare, per_class_k=3)
    for mode in ("smoke", "coverage"):
        ids = [each.id for each in select(found.samples, compare, mode)]
        assert ids == [each.id for each in select(expected.samples, compare, mode)]
    # Only those that are alike in size and in the middle are read as a whole, to tell copies.
    assert fetched_images(tmp_path) == (2 if layout.startswith("folders") else 0)
    assert [each.path.read_bytes() for each in found.samples] == [
        each.path.read_bytes() for each in expected.samples
    ]
    assert fetched_images(tmp_path) == len(found.samples)


def test_names_are_listed_and_not_asked_for_one_by_one(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    info = MemoryFileSystem.info

    def watched(files: Any, path: str, **options: Any) -> Any:
        asked.append(path)
        return info(files, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "info", watched)
    for layout in ("manifest", "COCO", "data.yaml of a list"):
        source, data = LAYOUTS[layout]
        read_dataset(load(tmp_path, data, "memory://up/"), source)
    assert asked and not [path for path in asked if path.endswith(".png")]


def test_where_it_cannot_be_known_what_is_a_copy_no_other_samples_are_drawn(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    config = load(tmp_path, {"val": SINGLE}, "memory://up/")
    samples = read_dataset(config, SINGLES).samples
    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    with pytest.raises(RemoteError, match="Access Denied"):
        select(samples, config.compare, "coverage")
    with pytest.raises(RemoteError, match="Access Denied"):
        choose_images([samples[0].path], read_bytes, verified=(), count=1, seed=0)


def test_images_to_calibrate_on(memory: Any, tmp_path: Path) -> None:
    data = {"val": SINGLE, "calibration": {"single": "single/K-1", "combo": "list.csv"}}
    local, remote = (load(tmp_path, data, prefix) for prefix in ("data/", "memory://up/"))
    for source in (SINGLES, SCENES):
        here, there = read_calibration(local, source), read_calibration(remote, source)
        assert here and there
        assert [str(path).removeprefix("memory://up/") for path in there] == [
            str(path.relative_to(tmp_path / "data")) for path in here
        ]
    assert fetched_images(tmp_path) == 0


def test_what_is_wrong_with_remote_data_names_the_url(memory: Any, tmp_path: Path) -> None:
    data = {"val": {"single": "list.csv"}, "class_map": "broken.json"}
    memory.pipe("/up/broken.json", b'{"K-1": 7}')
    with pytest.raises(DataError, match="beyond the classifier's head") as caught:
        read_dataset(load(tmp_path, data, "memory://up/"), SINGLES)
    assert "where:    memory://up/broken.json: K-1" in str(caught.value)
    with pytest.raises(DataError, match="no such folder of images") as caught:
        read_dataset(load(tmp_path, {"val": {"single": "gone"}}, "memory://up/"), SINGLES)
    assert "where:    memory://up/gone\n  got:      nothing" in str(caught.value)
    memory.pipe("/up/urls.csv", b"image_path,mapping_code\ns3://bucket/1.png,K-1\n")
    data = {"val": {"single": "urls.csv"}, "class_map": "map.json"}
    with pytest.raises(DataError, match="by paths, not by URLs") as caught:
        read_dataset(load(tmp_path, data, "memory://up/"), SINGLES)
    assert "where:    memory://up/urls.csv:2\n  got:      s3://bucket/1.png" in str(caught.value)
    with pytest.raises(RemoteError, match="what opens sftp:// is not installed") as caught:
        read_dataset(load(tmp_path, {"val": SINGLE}, "sftp://host/"), SINGLES)
    assert f"where:    {tmp_path}/config.yaml:7: data.val.single" in str(caught.value)


def test_an_image_that_is_gone_is_named_and_one_that_cannot_be_reached_ends_it(
    memory: Any, tmp_path: Path
) -> None:
    transform = ClassifyTransform(8, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    samples = read_dataset(load(tmp_path, {"val": SINGLE}, "memory://up/"), SINGLES).samples
    memory.rm("/up/single/K-1/0.png")
    (batch,) = load_batches(samples[:2], transform, 2)
    assert "there is no such file" in batch.unreadable["K-1/0.png"]
    assert "where:    memory://up/single/K-1/0.png" in batch.unreadable["K-1/0.png"]
    assert "it is empty or no image" in batch.unreadable["K-1/1.png"]
    far = samples[0].path.at("sftp://host/data", samples[0].folder.origin)  # type: ignore[attr-defined]
    with pytest.raises(RemoteError, match="what opens sftp://"):
        list(load_batches([replace(samples[0], folder=far)], transform, 2))


def test_copies_are_kept_with_the_experiment(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "paths: {exp_dir: exp}\ndata: {class_map: s3://b/map.json, remote_cache_gib: 0.5}\n"
    )
    config = load_config(path, {})
    assert isinstance(config.data.class_map, RemotePath)
    assert config.data.class_map.origin == Origin(
        f"{path}:2: data.class_map", tmp_path / "exp" / "cache" / "remote", 2**29
    )
    larger = replace(config, data=replace(config.data, remote_cache_gib=1.0))
    assert config_sha256(larger) == config_sha256(config)


def test_only_what_is_read_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("paths: {exp_dir: s3://bucket/exp}\nexport: {out_dir: s3://bucket/out}\n")
    with pytest.raises(ConfigError, match="2 problems") as caught:
        load_config(path, {})
    for key in (":1: paths.exp_dir", ":2: export.out_dir"):
        assert f"{path}{key}" in str(caught.value)
    assert "only data and checkpoints may be URLs" in str(caught.value)
