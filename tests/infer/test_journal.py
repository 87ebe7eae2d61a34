"""A command that is ended goes on where it was; what can change a result starts it anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pillsnap.core.errors import PillsnapError
from pillsnap.infer.answers import Answer, content_of
from pillsnap.infer.journal import open_journal


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return paths


def answers(paths: list[Path]) -> list[Answer]:
    return [Answer(content_of(path), None, {"image": str(path), "code": "K"}) for path in paths]


def break_off(output: Path, paths: list[Path], key: str = "key") -> None:
    """Keep results of these photos, in batches of two, and be interrupted."""
    with pytest.raises(KeyboardInterrupt), open_journal(output, key) as journal:
        assert list(journal.known(paths, 2)) == []
        for start in range(0, len(paths), 2):
            journal.add(answers(paths[start : start + 2]))
        raise KeyboardInterrupt


def known(output: Path, paths: list[Path], key: str = "key") -> int:
    """How many results are taken over; it is broken off again."""
    with pytest.raises(KeyboardInterrupt), open_journal(output, key) as journal:
        found = list(journal.known(paths, 2))
        assert found == [each.result for each in answers(paths[: len(found)])]
        assert list(journal.results()) == found
        raise KeyboardInterrupt
    return len(found)


def test_what_is_done_is_kept_and_gone_when_all_is_done(tmp_path: Path, photos: list[Path]) -> None:
    output, part = tmp_path / "r.csv", tmp_path / "r.csv.part"
    break_off(output, photos[:4])
    with open_journal(output, "key") as journal:
        assert len(list(journal.known(photos, 2))) == len(journal) == 4
        journal.add(answers(photos[4:]))
        assert list(journal.results()) == [each.result for each in answers(photos)]
        assert part.exists()
    assert not part.exists()


def test_only_whole_batches_of_the_same_photos_are_taken_over(
    tmp_path: Path, photos: list[Path]
) -> None:
    output = tmp_path / "r.jsonl"
    break_off(output, photos)
    assert known(output, photos) == 5
    assert known(output, photos[:3]) == 3
    assert known(output, photos) == 2  # the third was the last of its batch
    break_off(tmp_path / "other.jsonl", photos)
    Image.new("RGB", (4, 4), "white").save(photos[3])
    assert known(tmp_path / "other.jsonl", photos) == 2
    photos[0].unlink()
    assert known(output, photos) == 0


@pytest.mark.parametrize("rest", [b'{"content": "a", "resu', b"[]\n", b'{"result": 1}\n'])
def test_a_line_that_a_killed_process_left_is_dropped(
    tmp_path: Path, photos: list[Path], rest: bytes
) -> None:
    output = tmp_path / "r.jsonl"
    break_off(output, photos[:2])
    with Path(f"{output}.part").open("ab") as file:
        file.write(rest)
    assert known(output, photos) == 2


def test_another_key_begins_anew(
    tmp_path: Path, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    break_off(tmp_path / "r.jsonl", photos)
    assert known(tmp_path / "r.jsonl", photos, "other") == 0
    assert "another model, configuration, version or option" in caplog.text
    assert known(tmp_path / "r.jsonl", photos) == 0


def test_a_photo_that_cannot_be_read_stays_one(tmp_path: Path, photos: list[Path]) -> None:
    photos[1].unlink()
    break_off(tmp_path / "r.jsonl", photos)
    assert known(tmp_path / "r.jsonl", photos) == 5


def test_two_processes_do_not_write_the_same_results(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path / "r.jsonl", "key"),
        pytest.raises(PillsnapError, match="another process writes"),
        open_journal(tmp_path / "r.jsonl", "key"),
    ):
        pass


def test_a_place_where_nothing_can_be_kept_is_named(tmp_path: Path) -> None:
    part = tmp_path / "r.jsonl.part"
    part.mkdir()
    with (
        pytest.raises(PillsnapError, match=f"(?s)cannot write.*{part}.*Is a directory"),
        open_journal(tmp_path / "r.jsonl", "key"),
    ):
        pass


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path, photos: list[Path]) -> None:
    part = tmp_path / "r.csv.part"
    part.write_text("my own notes\n")
    with (
        pytest.raises(PillsnapError, match="no part of results"),
        open_journal(tmp_path / "r.csv", "key") as journal,
    ):
        list(journal.known(photos, 2))
    assert part.read_text() == "my own notes\n"
    part.write_text('{"ke')  # what a killed process may leave
    assert known(tmp_path / "r.csv", photos) == 0
