"""Where drawn photos go."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.infer.outputs import name_drawn


@pytest.mark.parametrize(
    ("photos", "drawn"),
    [
        (["a.png"], ["a.png"]),
        (["a.PNG", "b.jpg"], ["a.PNG", "b.jpg.png"]),
        # Of the same name but for the suffix, none takes another's place.
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg.png.png", "a.jpg.png", "a.png"]),
        (["x/a.png", "y/a.png"], ["x/a.png", "y/a.png"]),
    ],
)
def test_a_drawn_photo_is_a_png_of_its_name(
    tmp_path: Path, photos: list[str], drawn: list[str]
) -> None:
    paths = [tmp_path / "photos" / name for name in photos]
    folder = tmp_path / "drawn"
    assert name_drawn(paths, folder) == {
        path: folder / name for path, name in zip(paths, drawn, strict=True)
    }


def test_no_photo_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    photo = tmp_path / "photos" / "a.png"
    for folder in ("photos", "link"):
        assert name_drawn([photo], tmp_path / folder) == {photo: photo.with_name("a.png.png")}
