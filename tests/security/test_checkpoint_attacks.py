"""Checkpoints made to run code, to reach the network, to hang or to fill the memory."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pillsnap.config import Classification, Detection
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.safe_load import checkpoint_stage
from pillsnap.engines.torch.torchfile import StandIn, Unreadable, read_checkpoint
from pillsnap.engines.torch.torchfile.guard import guarded
from tests.models.small_models import make_detector, save_detector

GIB = 2**30


@pytest.fixture
def memory_limit() -> Iterator[None]:
    """Two GiB more than this process has: what a healthy checkpoint never needs."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + 2 * GIB
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def write_pickle(path: Path, data: bytes, **entry: Any) -> Path:
    """A checkpoint in zip format whose pickle is this one."""
    with zipfile.ZipFile(path, "w", **entry) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return path


def text(value: str) -> bytes:
    """Opcode of a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    """Opcode of a global."""
    return f"c{module}\n{name}\n".encode()


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    """A tensor over the four bytes of storage 0."""
    storage = b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu")
    function = named("torch._utils", "_rebuild_tensor_v2")
    end = b"\x89" + named("collections", "OrderedDict") + b")R"
    return function + b"(" + storage + b"K\x01tQ" + offset + size + stride + end + b"tR"


BIG = b"\x8a\x06" + (10**12).to_bytes(6, "little")
PICKLES: dict[str, tuple[bytes, str]] = {
    "a billion empty sets by steps": (b"\x8f0" * 1_500_000 + b"N.", "pickle is too long"),
    "nested tuples as a key, 2^60 hashes": (
        b"}" + b"K\x01\x85" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",
        "a key that no trainer writes",
    ),
    "a set of nested tuples": (
        named("builtins", "set") + b"(]" + b"K\x01\x85" + b"q\x00h\x00\x86" * 60 + b"atR.",
        "a key that no trainer writes",
    ),
    "integers chosen to collide": (
        b"}("
        + b"".join(
            b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"K\x01"
            for k in range(50, 1000)
        )
        + b"u.",
        "a key that no trainer writes",
    ),
    "one long text encoded a million times": (
        named("_codecs", "encode")
        + b"q\x01"
        + text("a" * 10**6)
        + text("latin1")
        + b"\x86q\x02"
        + b"h\x01h\x02R" * 300_000
        + b".",
        "pickle is too long",
    ),
    "an index of the memo beyond memory": (b"Nr\xff\xff\xff\xff.", ""),
    "a tensor of terabytes over one value": (
        tensor(BIG + b"\x85", b"K\x00\x85") + b".",
        "tensors are larger than the file",
    ),
    "a tensor beyond its storage": (
        tensor(BIG + b"\x85", b"K\x01\x85") + b".",
        "reaches beyond its values",
    ),
    "an offset below its storage": (
        tensor(b"K\x01\x85", b"K\x01\x85", b"J\xff\xff\xff\xff") + b".",
        "damaged",
    ),
    "a storage that the file has not": (
        tensor(b"K\x01\x85", b"K\x01\x85").replace(b"K\x01tQ", BIG + b"tQ") + b".",
        "values are not all there",
    ),
    "a million bytes by one number": (
        named("builtins", "bytearray") + BIG + b"\x85R.",
        "",
    ),
    "lists in one another, a million deep": (b"]" * 900_000 + b"a" * 899_999 + b".", ""),
    "an opcode of extensions": (b"\x82\x01.", "not of a kind that torch.save writes"),
    "a pickle of text opcodes": (b"I1\n.", "not of a kind that torch.save writes"),
    "an empty stack": (b"R.", "damaged"),
    "cut off in a text": (b"X\xff\xff\xff\x7fabc", "damaged"),
}


@pytest.mark.usefixtures("memory_limit")
@pytest.mark.parametrize("name", list(PICKLES))
def test_pickle_that_asks_for_more_than_it_holds(name: str, tmp_path: Path) -> None:
    data, words = PICKLES[name]
    path = write_pickle(tmp_path / "a.pt", b"\x80\x02" + data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", b"\0\0\0\0")
    if words:
        with pytest.raises(CheckpointError, match=words) as caught:
            read_checkpoint(path, {})
        assert str(path) in str(caught.value)
    else:
        read_checkpoint(path, {})  # harmless, and read within the limit


def test_data_that_inflates(tmp_path: Path) -> None:
    zeros = b"\x80\x02" + text("a" * (64 * 2**20)) + b"."
    path = write_pickle(tmp_path / "a.pt", zeros, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    for read in (lambda: read_checkpoint(path, {}), lambda: checkpoint_stage(path)):
        with pytest.raises(CheckpointError, match="would grow beyond measure"):
            read()


def test_checkpoint_packed_again_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5)}, buffer)
    with (
        zipfile.ZipFile(buffer) as written,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in written.namelist():
            archive.writestr(name, written.read(name))
    assert read_checkpoint(tmp_path / "a.pt", {})["a"].tolist() == [0, 1, 2, 3, 4]


def test_entries_that_are_encrypted_or_oddly_packed(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "a.pt", b"\x80\x02N.")
    data = path.read_bytes()
    at = (
        data.rindex(b"PK\x01\x02archive")
        if b"PK\x01\x02archive" in data
        else data.index(b"PK\x01\x02")
    )
    locked = bytearray(data)
    locked[at + 8] |= 1
    path.write_bytes(locked)
    with pytest.raises(CheckpointError, match="archive is encrypted"):
        checkpoint_stage(path)
    write_pickle(path, b"\x80\x02N.", compression=zipfile.ZIP_LZMA)
    with pytest.raises(CheckpointError, match="packed by a method"):
        checkpoint_stage(path)


def test_zip_directory_of_a_million_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    directory = entry * (10 * 2**20 // len(entry))
    end = b"PK\x05\x06" + bytes(4) + struct.pack("<HHIIH", 9, 9, len(directory), 2, 0)
    path.write_bytes(b"PK" + directory + end)
    with pytest.raises(CheckpointError, match="zip directory is too large"):
        checkpoint_stage(path)


def test_storages_in_big_endian_order(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.tensor([1.5, -2.0])}, buffer)
    with (
        zipfile.ZipFile(buffer) as written,
        zipfile.ZipFile(tmp_path / "a.pt", "w") as archive,
    ):
        for name in written.namelist():
            value = written.read(name)
            if name.endswith("data/0"):
                value = struct.pack(">2f", 1.5, -2.0)
            archive.writestr(name, b"big" if name.endswith("byteorder") else value)
    assert read_checkpoint(tmp_path / "a.pt", {})["a"].tolist() == [1.5, -2.0]


LIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an Identity in place of the layers": (
        lambda model: setattr(model, "model", torch.nn.Identity()),
        "its network",
    ),
    "no layers": (lambda model: setattr(model, "model", torch.nn.Sequential()), "its network"),
    "names that are a number": (lambda model: setattr(model, "names", 3), "class names"),
    "names of mixed keys": (
        lambda model: setattr(model, "names", {0: "a", "b": "c", None: 1}),
        "class names",
    ),
    "a stride of nothing": (
        lambda model: setattr(model.model[-1], "stride", torch.zeros(3)),
        "strides",
    ),
    "a stride that is one number": (
        lambda model: setattr(model.model[-1], "stride", torch.tensor(8.0)),
        "strides",
    ),
    "a stride that is no tensor": (
        lambda model: setattr(model.model[-1], "stride", 8),
        "strides",
    ),
    "strides of another network": (
        lambda model: setattr(model.model[-1], "stride", torch.tensor([4.0, 8.0, 16.0])),
        "does not run",
    ),
    "classes that are a text": (lambda model: setattr(model.model[-1], "nc", "1"), "classes"),
    "a layer that reads a later one": (lambda model: setattr(model.model[3], "f", 7), "place"),
    "a layer that reads by name": (lambda model: setattr(model.model[3], "f", "x"), "place"),
    "a place that is no number": (lambda model: setattr(model.model[3], "i", None), "place"),
    "no list of kept outputs": (lambda model: setattr(model, "save", 4), "outputs to keep"),
    "an operation repeated for ever": (
        lambda model: setattr(model.model[9], "n", 10**15),
        "does not run",
    ),
    "an image of terabytes": (
        lambda model: setattr(model.model[11], "scale_factor", 1e5),
        "does not run",
    ),
    "margins of terabytes": (
        lambda model: setattr(model.model[0].conv, "padding", (10**6, 10**6)),
        "does not run",
    ),
    "layers that do not fit": (
        lambda model: setattr(model.model[1], "conv", torch.nn.Conv2d(99, 1, 1)),
        "does not run",
    ),
    "a forward that is a layer": (
        lambda model: model.model[2].__dict__.update(forward=torch.nn.Identity()),
        "a forward of its own",
    ),
    "a forward that is a text": (
        lambda model: model.model[2].__dict__.update(forward="x"),
        "a forward of its own",
    ),
    "a hook": (
        lambda model: model.model[2].__dict__["_forward_hooks"].update({0: torch.nn.Identity()}),
        "_forward_hooks",
    ),
    "a layer behind a plain attribute": (
        lambda model: model.model[2].__dict__.update(cv3=torch.nn.Identity()),
        "a layer",
    ),
    "a layer within itself": (
        lambda model: model.model[2]._modules.update(cv3=model.model[2]),
        "also at another place",
    ),
    "a layer at two places": (
        lambda model: model.model[4]._modules.update(cv1=model.model[2].cv1),
        "also at another place",
    ),
    "a chain of layers, 60 deep": (
        lambda model: model.model[2]._modules.update(cv3=chain(60)),
        "too many layers",
    ),
    "a parameter that is a layer": (
        lambda model: model.model[2]._parameters.update(weight=torch.nn.Identity()),
        "_parameters weight",
    ),
}


def chain(depth: int) -> torch.nn.Module:
    """Layers in one another."""
    layer: torch.nn.Module = torch.nn.Identity()
    for _ in range(depth):
        layer = torch.nn.Sequential(layer)
    return layer


@pytest.mark.usefixtures("memory_limit")
@pytest.mark.parametrize("name", list(LIES))
def test_network_that_would_crash_or_hang(name: str, tmp_path: Path) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    change, words = LIES[name]
    model = make_detector("yolo11n", 1)
    change(model)
    path = tmp_path / "a.pt"
    torch.save({"ema": model}, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_detector(Detection("yolo11n", 1), path)
    assert str(path) in str(caught.value)


def test_yaml_of_a_checkpoint_builds_nothing(tmp_path: Path) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    model = make_detector("yolo11n", 1)
    model.yaml = {"yaml_file": "yolo11n.yaml", "backbone": [[-1, 10**9, "Conv", [10**9]]]}
    load_detector(Detection("yolo11n", 1), save_detector(model, tmp_path / "a.pt"))


def test_fused_layers_keep_their_own_forward(tmp_path: Path) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    model = make_detector("yolo11n", 1)
    images = torch.rand(1, 3, 64, 64)
    model.fuse(verbose=False)
    path = tmp_path / "a.pt"
    torch.save(model, path)  # without a trainer's entries, too
    module = load_detector(Detection("yolo11n", 1), path).module
    with torch.inference_mode():
        wanted = model(images)[0]
        assert torch.equal(module(images)[0, :, 4], wanted[0, 4])
    foreign = model.model[0]
    foreign.forward = model.model[1].forward_fuse
    torch.save(model, path)
    with pytest.raises(CheckpointError, match="a forward of its own"):
        load_detector(Detection("yolo11n", 1), path)


class Distilled:
    """Pickles as the construction of a network that fetches another checkpoint."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        from ultralytics.nn.distill_model import DistillationModel

        return DistillationModel, (self.source, self.source)


@pytest.mark.parametrize("setting", ["0", "1"])
def test_distilled_network_fetches_nothing(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", setting)
    monkeypatch.setattr("ultralytics.nn.tasks.SAFE_LOAD", setting == "1")
    monkeypatch.chdir(tmp_path)
    for where in ("ema", "train_args"):
        path = save_detector(
            make_detector("yolo11n", 1),
            tmp_path / "a.pt",
            **{where: Distilled("http://127.0.0.1:9/teacher.pt")},
        )
        with pytest.raises(CheckpointError, match="refused: loading it would call code") as caught:
            load_detector(Detection("yolo11n", 1), path)
        assert "ultralytics.nn.distill_model.DistillationModel(…)" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_network_and_processes_are_refused_while_a_checkpoint_is_read() -> None:
    from ultralytics.utils.downloads import safe_download

    address = "http://127.0.0.1:9/weights.pt"
    tries: list[Callable[[], object]] = [
        lambda: torch.hub.load_state_dict_from_url(address, model_dir="/nonexistent"),
        lambda: torch.hub.download_url_to_file(address, "/nonexistent/a"),
        lambda: safe_download(address, dir="/tmp", retry=0, exist_ok=True),
        lambda: subprocess.run([sys.executable, "-c", ""], check=False),
    ]
    for attempt in tries:
        with guarded(), pytest.raises((Unreadable, OSError, ConnectionError)) as caught:
            attempt()
        chain: BaseException | None = caught.value
        seen = []
        while chain is not None:
            seen.append(type(chain))
            chain = chain.__cause__ or chain.__context__
        assert Unreadable in seen or isinstance(caught.value, OSError)
    subprocess.run([sys.executable, "-c", ""], check=True)  # and not afterwards


def test_classifier_is_never_made_of_a_pickled_network(tmp_path: Path) -> None:
    from pillsnap.engines.torch.timm_models import load_classifier

    path = tmp_path / "a.pt"
    torch.save({"model": torch.nn.Sequential(torch.nn.Linear(1, 1))}, path)
    assert isinstance(read_checkpoint(path, {})["model"], StandIn)
    with pytest.raises(CheckpointError, match="holds no state dict") as caught:
        load_classifier(Classification("test_resnet", 5), path)
    assert "save model.state_dict() in place of the model" in str(caught.value)


def test_keys_of_a_checkpoint_move_no_cursor(tmp_path: Path) -> None:
    from pillsnap.engines.torch.timm_models import load_classifier

    path = tmp_path / "a.pt"
    torch.save({"\x1b[2Jgate: equivalent\nnote": 1}, path)
    with pytest.raises(CheckpointError) as caught:
        load_classifier(Classification("test_resnet", 5), path)
    assert "\x1b" not in str(caught.value) and "equivalent\nnote" not in str(caught.value)
    path.write_bytes(pickle.dumps("x", 2))
    with pytest.raises(CheckpointError, match="damaged, or was not written"):
        load_classifier(Classification("test_resnet", 5), path)
