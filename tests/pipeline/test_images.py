"""Real image files, good and bad."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pillsnap.core.errors import ImageError
from pillsnap.core.printable import printable
from pillsnap.pipeline.images import decode_image, read_bytes, read_image

# Four flat quarters, so that JPEG keeps them and every turn and mirror shows.
QUARTERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def quarters(width: int = 64, height: int = 32) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = QUARTERS[0]
    pixels[: height // 2, width // 2 :] = QUARTERS[1]
    pixels[height // 2 :, : width // 2] = QUARTERS[2]
    pixels[height // 2 :, width // 2 :] = QUARTERS[3]
    return Image.fromarray(pixels)


def save_exactly(image: Image.Image, path: Path, **options: Any) -> None:
    """As close to the pixels as the format goes."""
    exact: dict[str, dict[str, Any]] = {
        ".webp": {"lossless": True},
        ".jpg": {"quality": 95, "subsampling": 0},
    }
    image.save(path, **exact.get(path.suffix, {}), **options)


def assert_is(image: np.ndarray, expected: np.ndarray, slack: int = 0) -> None:
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= slack


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "jpg"])
def test_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save_exactly(quarters(), path)
    assert_is(read_image(path), np.asarray(quarters()), slack=3 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "jpg"])
def test_an_image_is_the_bytes_of_its_file_decoded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save_exactly(quarters(), path)
    data = read_bytes(path)
    assert data == path.read_bytes()
    expected = read_image(path)
    path.unlink()
    # Whoever has the bytes needs the file no more: its name is for errors.
    assert_is(decode_image(data, path), expected)
    with pytest.raises(ImageError, match=f"cannot be read(?s:.*){path}"):
        decode_image(data[: len(data) // 3], path)


def test_bytes_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("missing.png", "no such file"), ("folder.png", "is a directory")):
        with pytest.raises(ImageError, match=reason) as caught:
            read_bytes(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    # Any bytes can be read; only decoding needs an image.
    (tmp_path / "text.png").write_bytes(b"text")
    assert read_bytes(tmp_path / "text.png") == b"text"


def test_the_suffix_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    quarters().save(path, "PNG")
    assert_is(read_image(path), np.asarray(quarters()))


# What undoes each orientation, by the EXIF standard (CIPA DC-008, tag 274).
UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    save_exactly(quarters(), path, exif=exif)
    expected = UPRIGHT[orientation](np.asarray(quarters()))
    assert_is(read_image(path), expected, slack=3 if suffix == "jpg" else 0)


@pytest.mark.parametrize(
    "block",
    [
        b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 9, 0x0112, 3, 1, 1, 0),  # nine entries: one
        b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x0112, 99, 1, 6, 0),
        b"II*\0\xff\xff\xff\x7f",
        b"XX*\0\x08\0\0\0",
        b"II",
        b"",
    ],
    ids=["entries", "type", "offset", "order", "short", "empty"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which says so
def test_damaged_exif_is_no_reason_to_refuse_a_photo(tmp_path: Path, block: bytes) -> None:
    quarters().save(tmp_path / "a.jpg")
    whole = read_image(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    head = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0"
    (tmp_path / "a.jpg").write_bytes(data[:2] + head + block + data[2:])
    assert_is(read_image(tmp_path / "a.jpg"), whole)


def test_images_are_turned_by_pillow_9_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the machines of pillsnap_pipeline.py: it has no in_place."""
    whole = ImageOps.exif_transpose
    monkeypatch.setattr(ImageOps, "exif_transpose", lambda image: whole(image))
    exif = Image.Exif()
    exif[0x0112] = 6
    save_exactly(quarters(), tmp_path / "a.png", exif=exif)
    assert_is(read_image(tmp_path / "a.png"), UPRIGHT[6](np.asarray(quarters())))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    save_exactly(quarters().convert("CMYK"), path)
    with Image.open(path) as opened:
        assert opened.mode == "CMYK"
    assert_is(read_image(path), np.asarray(quarters()), slack=6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_keeps_its_upper_8(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    expected = np.stack([np.array([[0, 0, 1], [128, 254, 255]], np.uint8)] * 3, axis=-1)
    assert_is(read_image(path), expected)


def test_big_endian_grey_of_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", (2, 1), b"\x80\x01\x01\xff").save(path)
    assert_is(read_image(path), np.array([[[128] * 3, [1] * 3]], np.uint8))


def test_grey_of_16_bits_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[256, 512]], np.uint16)).save(path, exif=exif)
    assert_is(read_image(path), np.array([[[1] * 3], [[2] * 3]], np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(tmp_path: Path, mode: str) -> None:
    image = quarters().convert(mode)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    path = tmp_path / "a.png"
    image.save(path)
    assert_is(
        read_image(path),
        np.asarray(quarters().convert("L" if mode == "LA" else "RGB").convert("RGB")),
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff\x00"])
def test_palette(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([value for colour in QUARTERS for value in colour])
    image.putdata([0, 1, 2, 3])
    path = tmp_path / "a.png"
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    image.save(path, **options)
    with Image.open(path) as opened:
        assert opened.mode == "P"
        assert ("transparency" in opened.info) == (transparency is not None)
    assert_is(read_image(path), np.array([QUARTERS], np.uint8))


def test_grey_and_bilevel(tmp_path: Path) -> None:
    for mode, slack in (("L", 0), ("1", 0)):
        path = tmp_path / f"{mode}.png"
        image = quarters().convert(mode)
        image.save(path)
        assert_is(read_image(path), np.asarray(image.convert("RGB")), slack)


def test_one_pixel(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (1, 1), (1, 2, 3)).save(path)
    assert_is(read_image(path), np.array([[[1, 2, 3]]], np.uint8))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_of_several_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in QUARTERS]
    save_exactly(frames[0], path, save_all=True, append_images=frames[1:])
    assert_is(read_image(path), np.asarray(frames[0]))


def test_the_first_picture_of_a_phone_that_stores_several(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    frames = [Image.new("RGB", (16, 16), colour) for colour in QUARTERS]
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:])
    with Image.open(path) as opened:
        assert opened.format == "MPO"
    assert_is(read_image(path), np.asarray(frames[0]), slack=3)


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert f"where:    {printable(path)}" in message
    assert "try:" in message
    return message


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_truncated(tmp_path: Path, suffix: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refusal(path)


def test_no_images(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.png", tmp_path / "text.jpg"
    empty.touch()
    text.write_text("not an image\n" * 100)
    for path in (empty, text):
        assert "it is empty or no image" in refusal(path)


def test_an_image_that_would_start_another_program(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    quarters().save(path, "EPS")
    assert "no image" in refusal(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "missing.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    assert "there is no such file" in refusal(tmp_path / "link.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a directory" in refusal(tmp_path / "folder.png")


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    # A manifest or a COCO file may hold anything.
    for name in ("a\0b.png", "x" * 300 + ".png"):
        refusal(tmp_path / name)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_of_32_bits_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (2, 2)).save(path)
    assert "grey of 32 bits" in refusal(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("height", [9_000, 18_000])
def test_decompression_bombs(tmp_path: Path, height: int) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (10_000, height)).save(path)
    assert path.stat().st_size < 100_000
    assert "too many pixels" in refusal(path)


def test_a_bomb_where_warnings_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (10_000, 9_000)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "too many pixels" in refusal(path)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 1_501)])
def test_an_image_whose_sides_differ_out_of_measure(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "thin.png"
    Image.new("RGB", size).save(path)
    assert f"one side is over 500 times the other, {size[0]} x {size[1]} pixels" in refusal(path)


def test_an_image_whose_sides_differ_within_measure(tmp_path: Path) -> None:
    path = tmp_path / "thin.png"
    Image.new("RGB", (3, 1_500)).save(path)
    assert read_image(path).shape == (1_500, 3, 3)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bmp_of_runs(count: int) -> bytes:
    """Eight grey pixels by one, in RLE8, after so many empty lines that are none."""
    head = struct.pack("<IiiHHIIiiII", 40, 8, 1, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + head + b"\0\0" * count + b"\x08\1\0\1"


def of_many_pieces(form: str, count: int) -> bytes:
    """A good image, with so many empty pieces in its structure."""
    file = io.BytesIO()
    quarters().save(file, form)
    data = file.getvalue()
    if form == "PNG":
        return data[:33] + chunk(b"teSt") * count + data[33:]
    if form == "JPEG":
        return data[:2] + b"\xff\xfe\x00\x02" * count + data[2:]
    if form == "BMP":  # run by run: ends of lines, where none has begun
        return bmp_of_runs(count)
    start = data.index(b",", 13 + 3 * 4)  # past the palette: GIF's first picture
    return data[:start] + b"!\xfe\x01a\x00" * count + data[start:]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP"])
def test_an_image_of_too_many_pieces_is_given_up(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"
    plain = decode_image(of_many_pieces(form, 0), path)
    path.write_bytes(of_many_pieces(form, 10_000))
    assert_is(read_image(path), plain)
    path.write_bytes(of_many_pieces(form, 200_000))
    assert "too many pieces" in refusal(path)


def test_an_image_in_small_chunks_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 600, 3), np.uint8)
    raw = zlib.compress(b"".join(b"\0" + row.tobytes() for row in noise), 0)
    parts = [chunk(b"IDAT", raw[start : start + 64]) for start in range(0, len(raw), 64)]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 600, 500, 8, 2, 0, 0, 0))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + chunk(b"IEND"))
    assert_is(read_image(path), noise)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_are_read_or_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a"
    for suffix in ("jpeg", "png", "webp", "tiff", "bmp", "gif"):
        quarters().save(path, suffix)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = content.copy()
            damaged[rng.integers(min(len(damaged), 200), size=3)] = rng.integers(256, size=3)
            path.write_bytes(damaged.tobytes())
            try:
                image = read_image(path)
            except ImageError:
                continue
            assert image.ndim == 3
