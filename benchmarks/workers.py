"""Whether spreading the gate over workers costs time on few cores.

    python benchmarks/workers.py [--project demo|full] [--n N] [--workers 2] [--rounds 3]

`pytest -m coverage -n 2` against the same without workers: whole processes, exports in place, no
reference cache of an earlier run, interleaved. A worker has its share of the cores as threads.

    workers_ratio        median wall time with workers / median wall time without
    workers_ratio_cpu    the same of the processor's time: what is done twice
"""

from __future__ import annotations

import json
import sys

from projects import (
    GateProcess,
    argument_parser,
    interleaved,
    machine,
    median,
    project_of,
    rounded,
    run_gate,
)


def main() -> int:
    parser = argument_parser(__doc__, project="demo", n=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    project = project_of(arguments)
    project.export()
    ran: list[GateProcess] = []
    cpu: dict[bool, list[float]] = {True: [], False: []}

    def cold(*options: str) -> float:
        project.forget_references()
        ran.append(run_gate(project, "coverage", *options))
        cpu[bool(options)].append(ran[-1].cpu_s)
        return ran[-1].seconds

    spread, alone = interleaved(
        arguments.rounds, lambda: cold("-n", str(arguments.workers)), lambda: cold()
    )
    result = {
        "benchmark": "workers",
        "project": project.name,
        "n": ran[-1].samples,
        "workers": arguments.workers,
        "rounds": arguments.rounds,
        **machine(),
        "workers_ratio": round(median(spread) / median(alone), 3),
        "workers_ratio_cpu": round(median(cpu[True]) / median(cpu[False]), 3),
        "with_workers_s": rounded(spread),
        "without_s": rounded(alone),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
