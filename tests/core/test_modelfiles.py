"""What is hashed of a model of several files."""

from __future__ import annotations

from pathlib import Path

from pillsnap.core.hashes import sha256_file
from pillsnap.core.modelfiles import sha256_model
from pillsnap.engines.openvino.reading import read_ir


def save(path: Path, graph: bytes, weights: bytes) -> Path:
    path.write_bytes(graph)
    path.with_suffix(".bin").write_bytes(weights)
    return path


def test_bytes_that_move_between_graph_and_weights_make_another_model(tmp_path: Path) -> None:
    """A graph may end in any comment: its bytes are no weights, and the first weights no graph."""
    one = save(tmp_path / "one.xml", b"<net/>", b"<!---->1234")
    two = save(tmp_path / "two.xml", b"<net/><!---->", b"1234")
    assert sha256_model(one) != sha256_model(two)
    other = save(tmp_path / "other.xml", b"<net/>", b"<!---->1235")
    assert sha256_model(other) != sha256_model(one)
    for path in (one, two, other):
        assert read_ir(path).sha256 == sha256_model(path)


def test_a_model_in_one_file_has_the_hash_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(b"bytes")
    assert sha256_model(path) == sha256_file(path)
