"""A report is of the file that was measured, and of one file."""

from __future__ import annotations

from pathlib import Path

from pillsnap.compare.outcome import Outcome
from pillsnap.core.hashes import sha256_file
from pillsnap.gate.same_file import find_mixup


def outcome(path: Path, shard: str = "s", **facts: str) -> Outcome:
    return Outcome(shard, candidate={"path": str(path), "sha256": sha256_file(path), **facts})


def test_a_file_that_stays_is_no_mixup(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    assert find_mixup([outcome(file, "a"), outcome(file, "b")]) is None


def test_a_file_that_was_replaced_is_named_with_both_hashes(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    measured = outcome(file)
    file.write_bytes(b"two")
    found = find_mixup([measured])
    assert found is not None
    for part in (str(file), measured.candidate["sha256"][:12], sha256_file(file)[:12]):
        assert part in found


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    measured = outcome(file)
    file.unlink()
    found = find_mixup([measured])
    assert found is not None
    assert "gone" in found
    assert str(file) in found


def test_shards_of_different_files_are_a_mixup(tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file in files:
        file.write_bytes(file.name.encode())
    found = find_mixup([outcome(file) for file in files])
    assert found is not None
    assert "different files" in found
    assert all(str(file) in found for file in files)


def test_engines_without_a_file_have_nothing_to_mix_up() -> None:
    assert find_mixup([Outcome("s", candidate={"providers": ["numpy"]})]) is None
    assert find_mixup([]) is None
