"""A machine with GPUs: an NVML of our own in C, loaded as the real one is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

# PILLSNAP_GPUS holds a line per GPU: name, UUID, free bytes, bytes that the asking process takes
# (or - where only another process is listed).
SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
typedef struct { char name[64], uuid[64], used[32]; unsigned long long free; } Gpu;
static Gpu gpus[8];
static int count;
int nvmlInitWithFlags(unsigned flags) {
    const char *text = getenv("PILLSNAP_GPUS");
    if (!text) return 9; /* driver not loaded */
    count = 0;
    while (*text && count < 8) {
        Gpu *g = &gpus[count++];
        sscanf(text, "%63[^,],%63[^,],%llu,%31s", g->name, g->uuid, &g->free, g->used);
        text = strchr(text, '\n');
        if (!text++) break;
    }
    return 0;
}
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *v, unsigned n) { snprintf(v, n, "580.1"); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, Gpu **g) {
    if (i >= (unsigned)count) return 2; /* invalid argument */
    *g = &gpus[i];
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Gpu **g) {
    for (int i = 0; i < count; i++)
        if (!strcmp(gpus[i].uuid, uuid)) { *g = &gpus[i]; return 0; }
    return 6; /* not found */
}
int nvmlDeviceGetName(Gpu *g, char *v, unsigned n) { snprintf(v, n, "%s", g->name); return 0; }
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Gpu *g, Memory *m) {
    if (g->free == 0) return 3; /* not supported */
    m->total = 1ull << 40; m->free = g->free; m->used = m->total - m->free;
    return 0;
}
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *g, unsigned *n, Process *p) {
    if (!p) { *n = 2; return 7; /* insufficient size */ }
    memset(p, 0, 2 * sizeof *p);
    p[0].pid = 1; p[0].used = 1ull << 39; /* somebody else's */
    *n = 1;
    if (g->used[0] != '-') { p[1].pid = getpid(); p[1].used = strtoull(g->used, 0, 10); *n = 2; }
    return 0;
}
const char *nvmlErrorString(int code) { return "an error"; }
"""


@cache
def nvml_folder() -> Path:
    """Where the library lies, for LD_LIBRARY_PATH."""
    folder = Path(mkdtemp(prefix="pillsnap-nvml-"))
    (folder / "nvml.c").write_text(SOURCE)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return folder


def ask(code: str, *gpus: str, **environ: str) -> Any:
    """What an expression comes to in a process on a machine with these GPUs (see SOURCE); one of
    no driver without any. The names of core.hardware, core.workers and config.runtime are there."""
    names = "from pillsnap.core.hardware import *; from pillsnap.core.workers import *"
    names += "; from pillsnap.config.runtime import *"
    told = {"PILLSNAP_GPUS": "\n".join(gpus)} if gpus else {}
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {names}; print(json.dumps({code}))"],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(nvml_folder()),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **told,
            **environ,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)
