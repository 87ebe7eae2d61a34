"""How many threads and workers a machine bears."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pillsnap.core.cpus import usable_cpus
from pillsnap.core.errors import ConfigError
from pillsnap.core.hardware import gpu_free_mib

# GPU memory of one worker: a CUDA context, cuDNN's workspace, a detector's and a classifier's
# weights, and their activations for a batch of 16 at 640 px. Not measured on many cards: generous.
MIB_PER_GPU_WORKER = 4096


def thread_count(option: int | None, workers: int, configured: int = 0) -> int:
    """Threads per process: the option, else what is configured unless it is 0, else the CPUs that
    this process may use, divided by the workers."""
    if option is None and configured:
        return configured
    if option is None:
        return max(1, usable_cpus() // max(1, workers))
    if option < 1:
        raise ConfigError(
            "--threads must be a positive number",
            where="--threads",
            got=option,
            expected="1 or more",
        )
    return option


def workers_for_gpu(providers: Collection[str], device_id: Callable[[str], int]) -> int | None:
    """Most workers whose models fit into the GPU's free memory; None where no candidate will run
    on one.

    Args:
        providers: those that a candidate will lie on a GPU by.
        device_id: CUDA's number of the GPU that a provider (cuda, tensorrt) is given.
    """
    if not providers:
        return None
    free = gpu_free_mib(device_id("tensorrt" if "tensorrt" in providers else "cuda"))
    if free is None:
        return None
    return max(1, free // MIB_PER_GPU_WORKER)
