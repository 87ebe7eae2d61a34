"""What data behind URLs cost beside the same on a disk, the network left out.

    python benchmarks/remote.py [--n 1000] [--kib 200]

N photos of about that size behind file:// URLs, so that all the time is pillsnap's, fsspec's and
the disk's. Microseconds of the processor:

    list_us     to list an image by its name
    fetch_us    to fetch an image into the cache, whole, ahead of who reads it
    hit_us      to find that the copy there still is what the URL leads to
    read_us     to read an image's bytes from a disk by its path, for comparison
    decode_us   to decode and preprocess it for a classifier at 384 px, on one core
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from projects import machine

from pillsnap.core.fetching import fetched
from pillsnap.core.localcopies import Origin
from pillsnap.core.remote import RemotePath
from pillsnap.data.listing import list_images
from pillsnap.pipeline.images import read_bytes, read_image
from pillsnap.pipeline.preprocess import preprocess
from pillsnap.pipeline.transforms import ClassifyTransform

TRANSFORM = ClassifyTransform(384, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
DECODED = 50


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000, help="default: 1000")
    parser.add_argument("--kib", type=int, default=200, help="default: 200")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        size = write_photos(folder, arguments.n, arguments.kib * 1024)
        origin = Origin("benchmark", Path(name, "exp", "cache", "remote"), 1 << 40)
        root = RemotePath.at(f"file://{folder}", origin)
        there = [root / f"{index}.jpg" for index in range(arguments.n)]
        here = [folder / path.name for path in there]

        def fetch() -> None:
            for path in fetched(iter(there)):
                read_bytes(path)

        result = {
            "list_us": timed(lambda: list(list_images(root)), arguments.n),
            "fetch_us": timed(fetch, arguments.n),
            "hit_us": timed(fetch, arguments.n),
            "read_us": timed(lambda: [read_bytes(path) for path in here], arguments.n),
            "decode_us": timed(
                lambda: [preprocess(read_image(path), TRANSFORM) for path in here[:DECODED]],
                DECODED,
            ),
        }
    sizes = {"n": arguments.n, "kib": round(size / 1024)}
    print(json.dumps({"benchmark": "remote", **sizes, **machine(), **result}))
    return 0


def write_photos(folder: Path, count: int, wanted: int) -> int:
    """Links to one smooth photo that takes about so many bytes as a JPEG; returns how many."""
    rng = np.random.default_rng(0)
    side = 256
    while True:
        noise = rng.normal(128, 40, (side // 4, side // 4, 3)).clip(0, 255).astype(np.uint8)
        photo = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        photo.save(folder / "0.jpg", quality=90)
        size = (folder / "0.jpg").stat().st_size
        if size >= wanted:
            break
        side = int(side * 1.2)
    for index in range(1, count):
        (folder / f"{index}.jpg").hardlink_to(folder / "0.jpg")
    return size


def timed(work: Callable[[], object], count: int) -> float:
    """Microseconds of the processor by the piece: others may use it meanwhile."""
    started = time.process_time()
    work()
    return round(1e6 * (time.process_time() - started) / count, 1)


if __name__ == "__main__":
    sys.exit(main())
