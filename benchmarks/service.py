"""What serving costs beyond the bare pipeline, and what reloading does to memory.

    python benchmarks/service.py [--project demo|full] [--reloads 200] [--requests 100]

`uvicorn pillsnap.serve:app` in a process of its own, on loopback, provider cpu.

    latency_over_bare   median of one scene in mode combo through the service, over the same scene
                        read and run by the pipeline in this process, in turns
    clients_speedup     images a second of 8 clients over those of one, photos in mode single
    reload_growth       resident memory after the last reload of both models over that after the
                        first, each after the same largest batch
    reload_s            median time of a reload
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import yaml
from projects import Project, argument_parser, interleaved, machine, median, project_of, rounded

from pillsnap.config.settings import Serve
from pillsnap.core.cpus import usable_cpus
from pillsnap.infer.models import make_pipeline, open_model
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.twostage import Pipeline

CLIENTS = 8
IMAGE = {"content-type": "image/png"}


def main() -> int:
    parser = argument_parser(__doc__, project="demo", n=128)
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--requests", type=int, default=100)
    arguments = parser.parse_args()
    project = project_of(arguments)
    models = project.export()
    config = project.config
    assert config.data.val.combo is not None
    assert config.data.val.single is not None
    scenes = sorted(config.data.val.combo.images.glob("*.png"))[:16]
    photos = sorted(config.data.val.single.rglob("*.png"))[:16]
    with running(project) as client:
        latencies = measure_latency(client, bare_pipeline(project, models), scenes, arguments)
        result = {
            "benchmark": "service",
            "project": project.name,
            **machine(),
            **latencies,
            "clients_speedup": round(measure_speedup(client, photos, arguments.requests), 2),
            **measure_reloads(client, models, scenes, arguments.reloads),
        }
    print(json.dumps(result))
    return 0


@contextmanager
def running(project: Project) -> Iterator[httpx.Client]:
    """A client of the service, which runs until the block ends."""
    settings = yaml.safe_load(project.config_path.read_text())
    settings["serve"] = {"provider": "cpu", "allow_unverified": True}
    with (
        tempfile.NamedTemporaryFile("w", dir=project.config_path.parent, suffix=".yaml") as file,
        socket.socket() as probe,
    ):
        yaml.safe_dump(settings, file)
        file.flush()
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = (sys.executable, "-m", "uvicorn", "pillsnap.serve:app", "--port", str(port))
        env = {**os.environ, "PILLSNAP_CONFIG": file.name}
        server = subprocess.Popen([*command, "--log-level", "warning"], env=env)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
                wait_for(client, server)
                yield client
        finally:
            server.terminate()
            server.wait()


def wait_for(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            client.get("/health")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("the service did not start")


def bare_pipeline(project: Project, models: dict[str, Path]) -> Pipeline:
    config = replace(project.config, serve=Serve(provider="cpu"))
    opened = {
        stage: open_model(
            config,
            stage,
            path,
            provider="cpu",
            threads=usable_cpus(),
            engine="onnx",
        )
        for stage, path in models.items()
    }
    return make_pipeline(config, classifier=opened["classification"], detector=opened["detection"])


def measure_latency(
    client: httpx.Client, pipeline: Pipeline, scenes: list[Path], arguments: Any
) -> dict[str, Any]:
    numbers = {"served": iter(range(10**6)), "bare": iter(range(10**6))}

    def served() -> float:
        path = scenes[next(numbers["served"]) % len(scenes)]
        return timed(lambda: post(client, path, "combo"))

    def bare() -> float:
        path = scenes[next(numbers["bare"]) % len(scenes)]
        return timed(lambda: pipeline.run([read_image(path)], "combo"))

    for _ in range(3):
        served()
        bare()
    through, alone = interleaved(arguments.requests, served, bare)
    return {
        "latency_over_bare": round(median(through) / median(alone), 3),
        "served_ms": round(1000 * median(through), 1),
        "bare_ms": round(1000 * median(alone), 1),
    }


def measure_speedup(client: httpx.Client, photos: list[Path], requests: int) -> float:
    def ask(number: int) -> None:
        post(client, photos[number % len(photos)], "single")

    def seconds(clients: int) -> float:
        with ThreadPoolExecutor(clients) as pool:
            return timed(lambda: list(pool.map(ask, range(requests))))

    seconds(CLIENTS)
    alone, together = interleaved(3, lambda: seconds(1), lambda: seconds(CLIENTS))
    return median(alone) / median(together)


def measure_reloads(
    client: httpx.Client, models: dict[str, Path], scenes: list[Path], count: int
) -> dict[str, Any]:
    body = {f"{stage}_model_path": path.name for stage, path in models.items()}

    def reload() -> float:
        def ask() -> None:
            answer = client.post("/reload", json={**body, "allow_unverified": True})
            answer.raise_for_status()

        return timed(ask)

    seconds = [reload()]
    memory = [resident(client, scenes)]
    for number in range(1, count):
        seconds.append(reload())
        if number % 50 == 49 or number == count - 1:
            memory.append(resident(client, scenes))
    return {
        "reloads": count,
        "reload_growth": round(memory[-1] / memory[0], 3),
        "reload_s": round(median(seconds), 3),
        "resident_mib": rounded([each / 2**20 for each in memory], 1),
    }


def resident(client: httpx.Client, scenes: list[Path]) -> float:
    files = [("image", (path.name, path.read_bytes())) for path in scenes]
    client.post("/predict?mode=combo", files=files).raise_for_status()
    found = re.search(r"^pillsnap_resident_bytes (\S+)", client.get("/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def post(client: httpx.Client, path: Path, mode: str) -> None:
    answer = client.post(f"/predict?mode={mode}", content=path.read_bytes(), headers=IMAGE)
    answer.raise_for_status()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
