"""Under load: 2,000 requests of 8 clients, and 50 reloads in between, a third of them broken."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

from tests.e2e.demo_project import DemoProject
from tests.serve.running import running

REQUESTS, CLIENTS, RELOADS = 2_000, 8, 50
GROWTH_MAX = 0.2
SECONDS_MAX = 900
IMAGE = {"content-type": "image/png"}


def rolled(good: Path, path: Path) -> None:
    """The classifier with its classes moved on by one: every answer says which model gave it."""
    model = onnx.load(good)
    for node in model.graph.node:
        node.output[:] = ["straight" if name == "logits" else name for name in node.output]
    order = np.roll(np.arange(24), 1)
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    model.graph.node.append(helper.make_node("Gather", ["straight", "order"], ["logits"], axis=1))
    onnx.save(model, path)


def resident(client: httpx.Client, scenes: list[Path]) -> float:
    """Bytes after a batch of the largest size: ONNX Runtime keeps what its largest took."""
    files = [("image", (path.name, path.read_bytes())) for path in scenes * 2]
    assert client.post("/predict?mode=combo", files=files).status_code == 200
    found = re.search(r"^pillsnap_resident_bytes (\S+)", client.get("/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def classes(result: dict[str, Any]) -> list[int]:
    """Class indices of all pills of a result."""
    pills = [box["pill"] for box in result["boxes"]] if "boxes" in result else [result]
    return [pill["class_index"] for pill in pills]


@pytest.mark.slow
def test_no_request_fails_and_no_answer_is_wrong(passed: DemoProject, tmp_path: Path) -> None:
    out = passed.out_dir
    rolled(out / "latest_classification.onnx", out / "rolled.onnx")
    (out / "broken.onnx").write_bytes((out / "rolled.onnx").read_bytes()[:9000])
    settings = {**passed.settings, "serve": {"provider": "cpu", "allow_unverified": True}}
    config = passed.path / "load.yaml"
    config.write_text(yaml.safe_dump(settings))
    singles = sorted((passed.images / "single").rglob("00[0-3].png"))[:40]
    scenes = sorted((passed.images / "combo" / "images").glob("000[0-7].png"))
    images = [(path.read_bytes(), "single") for path in singles]
    images += [(path.read_bytes(), "combo") for path in scenes]

    with running(config, tmp_path / "log") as client:

        def ask(index: int) -> dict[str, Any]:
            data, mode = images[index]
            answer = client.post(f"/predict?mode={mode}", content=data, headers=IMAGE)
            assert answer.status_code == 200, answer.text
            (result,) = answer.json()["results"]
            return dict(result)

        quiet = [ask(index) for index in range(len(images))]
        straight = quiet[0]["models"]["classification"]["sha256"]
        seen: set[str] = set()

        def check(number: int) -> None:
            # A scene costs a hundred photos: one request in ten is one.
            index = 40 + number % 8 if number % 10 == 0 else number % 40
            result = ask(index)
            digest = result["models"]["classification"]["sha256"]
            seen.add(digest)
            shift = 0 if digest == straight else 1
            expected = [(each + shift) % 24 for each in classes(quiet[index])]
            assert classes(result) == expected, (index, shift)

        def reload(number: int) -> None:
            good = number % 3 != 0
            names = ("latest_classification.onnx", "rolled.onnx")
            name = names[number % 2] if good else ("rolled.onnx", "broken.onnx")[number % 2]
            # The even bad ones are not permitted, the odd ones cannot be loaded.
            allow = number % 2 == 1
            body = {"classification_model_path": name, "allow_unverified": allow}
            if number % 6 == 4:
                body["detection_model_path"] = "latest_detection.onnx"
            answer = client.post("/reload", json=body)
            assert (answer.status_code == 200) == good, answer.text

        def reloads() -> None:
            for number in range(1, RELOADS + 1):
                reload(number)
                time.sleep(0.3)

        start = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool, ThreadPoolExecutor(1) as other:
            list(pool.map(check, range(100)))
            for number in range(1, 7):  # every kind of reload once
                reload(number)
            list(pool.map(check, range(100)))
            before = resident(client, scenes)
            done = other.submit(reloads)
            list(pool.map(check, range(REQUESTS)))
            done.result()
        assert len(seen) == 2
        assert resident(client, scenes) < before * (1 + GROWTH_MAX)
        assert time.monotonic() - start < SECONDS_MAX
    assert "Traceback" not in (tmp_path / "log").read_text()
