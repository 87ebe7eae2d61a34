"""A process of its own: pickles every class that others take for safe, and reads the pickles.

Prints one JSON object: how many pickles were read, and what happened while they were.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import struct
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pillsnap.engines.torch.yolo import quiet_ultralytics

ADDRESS = "http://127.0.0.1:9/weights.pt"
WATCHED = ("open", "socket.", "subprocess.", "os.", "urllib.", "import", "ctypes.", "shutil.")


def names() -> Iterator[str]:
    """Dotted names on the lists of torch and of ultralytics, and what stands beside them."""
    import torch
    from torch import _weights_only_unpickler as safe

    yield from safe._get_allowed_globals()
    packages = ("torch.nn.modules", "ultralytics.nn", "ultralytics.nn.modules")
    modules = [
        f"{package}.{module.name}"
        for package in packages
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    ]
    modules += ["ultralytics.utils.loss", "ultralytics.utils.tal", "torchvision.models"]
    modules += ["torchvision.transforms.transforms", "torch.hub", "torch.utils.model_zoo"]
    for name in modules:
        try:
            module: ModuleType = importlib.import_module(name)
        except Exception:  # of a library that is not installed
            continue
        for attribute, value in vars(module).items():
            if callable(value):
                yield f"{name}.{attribute}"
    assert torch.nn.Module is not None


def pickles(name: str) -> Iterator[bytes]:
    """A class constructed by call and by name, and filled."""
    module, _, attribute = name.rpartition(".")
    found = f"c{module}\n{attribute}\n".encode()
    address = b"X" + struct.pack("<I", len(ADDRESS)) + ADDRESS.encode()
    for arguments in (address + b"\x85", address * 2 + b"\x86", b"K\x08K\x08\x86", b")"):
        yield b"\x80\x02" + found + arguments + b"R."
        yield b"\x80\x02" + found + arguments + b"\x81."
    yield b"\x80\x02" + found + b")\x81}X\x01\x00\x00\x00a" + address + b"sb."


def main() -> None:
    """Read them all, while every event of Python is noted."""
    quiet_ultralytics()
    from pillsnap.core.errors import CheckpointError
    from pillsnap.engines.torch.torchfile import reading
    from pillsnap.engines.torch.torchfile.budget import Budget
    from pillsnap.engines.torch.torchfile.layers import network_layers
    from pillsnap.engines.torch.torchfile.maker import CheckpointMaker
    from pillsnap.engines.torch.torchfile.tensors import Tensors

    layers = network_layers()
    every = sorted(set(names()))
    # One file through the front door, so that whatever is imported late is there.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pt")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02N.")
        reading.read_checkpoint(path, layers)
    events: list[str] = []
    current = ""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(WATCHED):
            events.append(f"{current}: {event} {arguments[:1]!r:.100}")

    sys.addaudithook(watch)
    count, made = 0, 0
    for name in every:
        current = name
        for data in pickles(name):
            budget = Budget()
            maker = CheckpointMaker(Tensors(lambda *_: None, budget), layers, budget)  # type: ignore[arg-type,return-value]
            count += 1
            try:
                reading.run_pickle(data, 0, maker, budget)
                made += not maker.refused
            except (CheckpointError, Exception):
                continue
    json.dump({"names": len(every), "pickles": count, "made": made, "events": events}, sys.stdout)


if __name__ == "__main__":
    main()
