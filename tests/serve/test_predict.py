"""/predict: what it answers, and every kind of image and body that is not one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pillsnap.config.cells import STAGES
from pillsnap.config.settings import Config
from pillsnap.infer.choice import choose_model
from pillsnap.infer.models import make_pipeline, open_model
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.twostage import Pipeline
from tests.e2e.demo_project import DemoProject


@pytest.fixture(scope="module")
def pipeline(config: Config) -> Pipeline:
    """The same models without a service."""
    both = {
        stage: open_model(
            config,
            stage,
            choose_model(config, stage, {}).path,
            provider="cpu",
            threads=1,
            engine="onnx",
        )
        for stage in STAGES
    }
    return make_pipeline(config, both, batch_size=1)


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    ramp = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size[1], size[0])
    if mode == "I;16":
        return Image.fromarray((ramp * 17 % 65536).astype(np.uint16))
    return Image.fromarray((ramp % 256).astype(np.uint8)).convert(mode)


def frames() -> dict[str, Any]:
    return {"save_all": True, "append_images": [picture("L"), picture("L")]}


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge, and is not."""

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pieces(count: int) -> bytes:
    """A PNG with so many empty chunks."""
    data = saved(picture())
    return data[:33] + chunk(b"teSt", b"") * count + data[33:]


def two_files(data: bytes) -> bytes:
    """A form of two files, whose boundary is x."""
    head = b'--x\r\nContent-Disposition: form-data; name="i"; filename="a.png"\r\n\r\n'
    return (head + data + b"\r\n") * 2 + b"--x--\r\n"


UNUSUAL = {
    "CMYK": saved(picture("CMYK"), "JPEG"),
    "16-bit": saved(picture("I;16")),
    "animated GIF": saved(picture("P"), "GIF", **frames()),
    "animated WebP": saved(picture(), "WEBP", **frames()),
    "EXIF-rotated": saved(picture(), "JPEG", exif=turned()),
    "one pixel": saved(picture(size=(1, 1))),
    "one pixel high": saved(picture(size=(500, 1))),
    "grey": saved(picture("L")),
    "grey with alpha": saved(picture("LA")),
    "alpha": saved(picture("RGBA")),
    "palette with transparency": saved(picture("P"), transparency=0),
    "one bit": saved(picture("1")),
    "TIFF of two pages": saved(picture(), "TIFF", **frames()),
    "BMP": saved(picture(), "BMP"),
}

UNREADABLE = {
    "empty": (b"", "empty or no image"),
    "text renamed .jpg": (b"these are words", "empty or no image"),
    "truncated JPEG": (saved(picture(size=(200, 200)), "JPEG")[:900], "cannot be read"),
    "truncated PNG": (saved(picture(size=(200, 200)))[:300], "cannot be read"),
    "head of a PNG": (saved(picture())[:20], "cannot be read"),
    "PNG with a wrong checksum": (saved(picture()).replace(b"IDAT", b"IDAX"), "cannot be read"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "empty or no image"),
    "PDF": (b"%PDF-1.7\n", "empty or no image"),
    "EPS": (saved(picture("RGB"), "EPS"), "empty or no image"),
    "zip": (b"PK\x03\x04" + bytes(100), "empty or no image"),
    "zeros": (bytes(5000), "empty or no image"),
    "32-bit grey": (saved(picture("F"), "TIFF"), "32 bits"),
    "sides out of measure": (saved(picture(size=(1, 20_000))), "over 500 times the other"),
    "too many pieces": (pieces(200_000), "too many pieces"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_images_are_answered(served: TestClient, name: str) -> None:
    for mode in ("single", "combo"):
        answer = served.post(f"/predict?mode={mode}", files={"image": ("a.jpg", UNUSUAL[name])})
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["results"]
        assert result["mode"] == mode


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_images_are_named(served: TestClient, photo: bytes, name: str) -> None:
    data, message = UNREADABLE[name]
    alone = served.post("/predict", files={"image": ("pill.jpg", data)})
    assert alone.status_code == 422
    assert message in alone.json()["error"]
    # Beside one that can be read it costs that one nothing, and neither is lost.
    files = [("image", ("bad.jpg", data)), ("image", ("good.png", photo))]
    answer = served.post("/predict", files=files)
    assert (answer.status_code, answer.json()["unreadable"]) == (200, 1)
    bad, good = answer.json()["results"]
    assert (bad["image"], good["image"]) == ("bad.jpg", "good.png")
    assert message in bad["error"]
    assert good["code"] == "K-000123"


def parts(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(2**16)


FORM = {"content-type": "multipart/form-data; boundary=x"}
IMAGE = {"content-type": "image/png"}
SMALL = saved(picture())
BAD_REQUESTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no body": ({}, 415, "send a multipart form"),
    "JSON": ({"json": {"image": "x"}}, 415, "send a multipart form"),
    "body too large": ({"content": bytes(2**22 + 1), "headers": IMAGE}, 413, "larger than"),
    "body too large, of no declared length": (
        {"content": parts(80), "headers": IMAGE},
        413,
        "larger than",
    ),
    "too many images": ({"files": [("image", ("a", SMALL))] * 5}, 413, "Too many files"),
    "too many pixels": (
        {"files": {"image": ("a", bomb(2000, 1500))}},
        413,
        "3.0 megapixels in a photo, more than 2",
    ),
    "4 gigapixels": (
        {"files": {"image": ("a", bomb(65_000, 65_000))}},
        413,
        "4225.0 megapixels in a photo",
    ),
    "too many pixels in all": (
        {"files": [("image", ("a", bomb(1000, 800)))] * 3},
        413,
        "2.4 megapixels in all",
    ),
    "form without images": ({"content": b"--x--\r\n", "headers": FORM}, 422, "no image"),
    "broken form": ({"content": b"not a form", "headers": FORM}, 422, "cannot be read"),
    "form cut off": (
        {"content": b'--x\r\nContent-Disposition: form-data; name="i', "headers": FORM},
        422,
        "cut off",
    ),
    "form cut off in its second file": (
        {"content": two_files(SMALL)[:-40], "headers": FORM},
        422,
        "cut off",
    ),
    "form without its last boundary": (
        {"content": two_files(SMALL).removesuffix(b"--\r\n"), "headers": FORM},
        422,
        "cut off",
    ),
    "form without boundary": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        422,
        "cannot be read",
    ),
    "unknown mode": ({"files": {"image": ("a", SMALL)}, "data": {"mode": "both"}}, 422, "single"),
    "empty mode": ({"files": {"image": ("a", SMALL)}, "params": {"mode": ""}}, 422, "single"),
    "two modes": (
        {"files": {"image": ("a", SMALL)}, "data": {"mode": "single"}, "params": {"mode": "combo"}},
        422,
        "mode must be",
    ),
    "unknown field": ({"files": {"image": ("a", SMALL)}, "data": {"x": "y"}}, 422, "fields"),
    "empty image as the body": ({"content": b"", "headers": IMAGE}, 422, "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_requests(served: TestClient, passed: DemoProject, photo: bytes, name: str) -> None:
    request, status, message = BAD_REQUESTS[name]
    answer = served.post("/predict", **request)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert message in answer.json()["error"]
    assert str(passed.path) not in answer.text
    assert "Traceback" not in answer.text
    assert served.post("/predict", content=photo, headers=IMAGE).status_code == 200


def test_results_are_those_of_the_bare_pipeline(
    served: TestClient, pipeline: Pipeline, passed: DemoProject
) -> None:
    paths = sorted((passed.images / "combo" / "images").glob("000[0-3].png"))
    for mode in ("single", "combo"):
        files = [("image", (path.name, path.read_bytes())) for path in paths]
        answer = served.post("/predict", files=files, data={"mode": mode}).json()
        bare = pipeline.run([read_image(path) for path in paths], mode)
        assert [result.pop("image") for result in answer["results"]] == [p.name for p in paths]
        assert answer["unreadable"] == 0
        for served_result, result in zip(answer["results"], bare, strict=True):
            assert_alike(served_result, result)


def assert_alike(one: Any, other: Any) -> None:
    """Equal, but for the last digits that another batch size or thread count changes."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_alike(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_alike(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=0.02)
    else:
        assert one == other


def test_a_scene_has_boxes_in_its_own_pixels(served: TestClient, passed: DemoProject) -> None:
    image = passed.images / "combo" / "images" / "0003.png"
    answer = served.post("/predict?mode=combo", content=image.read_bytes(), headers=IMAGE)
    (result,) = answer.json()["results"]
    with Image.open(image) as opened:
        width, height = opened.size
    label = (passed.images / "combo" / "labels" / "0003.txt").read_text().splitlines()
    assert len(result["boxes"]) == len(label)
    truth = []
    for line in label:
        _, cx, cy, w, h = map(float, line.split())
        truth.append(((cx - w / 2) * width, (cy - h / 2) * height))
    for box in result["boxes"]:
        assert min(abs(box["xyxy"][0] - x) + abs(box["xyxy"][1] - y) for x, y in truth) < 12
        assert set(box["pill"]) >= {"code", "edi_code", "edi_reason", "confidence"}
    assert set(result["models"]) == set(STAGES)


def test_names_are_the_clients_own_without_folders(served: TestClient, photo: bytes) -> None:
    for name in ("../../etc/passwd", "C:\\photos\\passwd", "/a/passwd"):
        (result,) = served.post("/predict", files={"i": (name, photo)}).json()["results"]
        assert Path(result["image"]).name == result["image"] == "passwd"


def test_metrics_count_what_was_answered(served: TestClient, photo: bytes) -> None:
    def count(line: str) -> float:
        text = served.get("/metrics").text
        return float(next(row for row in text.splitlines() if row.startswith(line)).split()[-1])

    served.post("/predict", files=[("i", ("a", photo)), ("i", ("b", b"no"))])
    answered = 'pillsnap_images_total{outcome="answered"}'
    before = count(answered), count('pillsnap_images_total{outcome="unreadable"}')
    served.post("/predict", files=[("i", ("a", photo)), ("i", ("b", b"no"))])
    after = count(answered), count('pillsnap_images_total{outcome="unreadable"}')
    assert after == (before[0] + 1, before[1] + 1)
