"""What a run consists of: cells, their samples and shards, out of names alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import (
    Classification,
    Compare,
    Config,
    Data,
    Detection,
    Export,
    Paths,
)
from pillsnap.config.validation import Combo, Validation
from pillsnap.data.sampling import hard_pool
from pillsnap.gate.plan import Plan
from pillsnap.gate.run import GateRun
from pillsnap.gate.run_key import run_key

DRUGS, PHOTOS = 3, 30
COVERAGE = Cell("classification", "onnx", "auto", "fp32", "coverage")


def make_plan(folder: Path, **compare: int) -> Plan:
    """Over empty files: no image is opened."""
    for number in range(PHOTOS):
        path = folder / "single" / f"K-{number % DRUGS}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    class_map = folder / "class_map.json"
    class_map.write_text(json.dumps({f"K-{index}": index for index in range(DRUGS)}))
    settings = Compare(
        **{"shard_size": 4, "batch_size": 2, "per_class_k": 2, "sample_count": 9, **compare}
    )
    config = Config(
        paths=Paths(folder / "exp"),
        data=Data(Validation(folder / "single", None), class_map),
        classification=Classification(num_classes=DRUGS),
        export=Export(compare=settings),
    )
    return Plan(config, Selection(stages=("classification",)))


@pytest.mark.parametrize("mode", ["smoke", "coverage", "full"])
def test_every_sample_of_a_cell_is_in_one_shard(tmp_path: Path, mode: str) -> None:
    plan = make_plan(tmp_path)
    cell = replace(COVERAGE, mode=mode)
    samples = plan.samples(cell)
    assert len(samples) == {"smoke": 9, "coverage": 2 * DRUGS, "full": PHOTOS}[mode]
    shards = [shard for shard in plan.shards() if shard.cell == cell]
    parts = [plan.part(samples, shard) for shard in shards]
    assert [len(part) for part in parts[:-1]] == [plan.shard_size] * (len(parts) - 1)
    assert [sample for part in parts for sample in part] == samples


def test_a_cell_of_part_of_the_data_was_drawn_from_all_of_them(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    assert plan.population(COVERAGE) == plan.data("classification")
    assert len(plan.data("classification")) == PHOTOS > len(plan.samples(COVERAGE))


def test_the_files_of_a_cell_are_those_of_its_samples(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    assert plan.files(COVERAGE) == [sample.path for sample in plan.samples(COVERAGE)]


def test_photos_that_may_turn_out_to_be_hard_are_among_the_files(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, hard_per_bin=1, hard_pool=10)
    assert [cell.hard for cell in plan.cells() if cell.mode == "coverage"] == [False, True]
    pool = hard_pool(plan.data("classification"), Compare(hard_pool=10))
    assert len(pool) == 10
    assert {sample.path for sample in pool} <= set(plan.files(COVERAGE))
    assert len(plan.files(replace(COVERAGE, mode="smoke"))) == 9


def test_boxes_get_the_class_that_has_the_name_of_their_category(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").touch()
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "large"}, {"id": 2, "name": "small"}],
        "annotations": [
            {"image_id": 1, "category_id": number, "bbox": [1, 1, number, 2]} for number in (1, 2)
        ],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    combo = Combo(tmp_path / "images", tmp_path / "c.json")
    config = Config(
        paths=Paths(tmp_path),
        data=Data(Validation(combo=combo)),
        detection=Detection(num_classes=2),
    )
    chosen = Selection(stages=("detection",))
    plan = Plan(config, chosen)
    (found,), notes = plan.in_classes(plan.data("detection"), "detection", ("small", "large"))
    assert [(box.class_id, box.w) for box in found.boxes or ()] == [(1, 0.1), (0, 0.2)]
    assert "by name" in notes[0]
    single = Data(Validation(combo=replace(combo, single_cls=True)))
    alike = Plan(replace(config, data=single, detection=Detection()), chosen)
    (found,), notes = alike.in_classes(alike.data("detection"), "detection", ("pill",))
    assert [box.class_id for box in found.boxes or ()] == [0, 0]
    assert notes == []


def test_a_named_checkpoint_is_asked_for_and_known_by_its_content(tmp_path: Path) -> None:
    files = {stage: tmp_path / stage / "best.pt" for stage in ("detection", "classification")}
    for path in files.values():
        path.parent.mkdir()
        path.write_text("model")
    config = Config(
        paths=Paths(tmp_path / "exp"),
        detection=Detection(checkpoint=files["detection"]),
        classification=Classification(checkpoint=files["classification"]),
    )
    chosen = Selection(stages=("detection", "classification"))
    assert Plan(config, chosen).asks_for("detection")
    run = GateRun(config, chosen, threads=1, run_dir=tmp_path / "run")
    keys = [run_key(run, "smoke")]
    for path in files.values():  # of one name
        path.write_text("another")
        keys.append(run_key(run, "smoke"))
    assert len(set(keys)) == 3
    files["detection"].unlink()
    assert Plan(config, chosen).asks_for("detection")
