"""A Ray cluster of two nodes with one CPU each, in a process of its own.

    python -m tests.plugin.ray_nodes

Writes its address; `lose` on standard input kills the second node, `join` brings another. Ends with
its standard input, and leaves no process behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Nodes:
    """The cluster as a test sees it."""

    process: subprocess.Popen[str]
    address: str
    whole: bool = True

    def lose(self) -> None:
        """Kill the second node, as if its machine had died."""
        self._ask("lose")
        self.whole = False

    def restore(self) -> None:
        if not self.whole:
            self._ask("join")
            self.whole = True

    def _ask(self, word: str) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == f"{word} done"


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    # The machine's memory is not these tests' alone.
    environment = {
        **os.environ,
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-m", "tests.plugin.ray_nodes"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield Nodes(process, process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait(60)


def main() -> None:
    from ray.cluster_utils import Cluster

    # What Ray writes is not for the pipe.
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    cluster = Cluster(initialize_head=True, head_node_args={**SIZE, "include_dashboard": False})
    second = cluster.add_node(**SIZE)
    pipe.write(f"{cluster.address}\n")
    try:
        for line in sys.stdin:
            if line.strip() == "lose":
                cluster.remove_node(second, allow_graceful=False)
            else:
                second = cluster.add_node(**SIZE)
            pipe.write(f"{line.strip()} done\n")
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
