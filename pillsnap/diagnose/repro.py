"""A folder that shows the difference with numpy and onnxruntime alone."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np

from pillsnap.core.files import replace_atomic, write_atomic
from pillsnap.diagnose.subject import Subject
from pillsnap.engines import Batch
from pillsnap.export import read_onnx
from pillsnap.export.safety import external_files

_SCRIPT = '''"""Shows how far a model is from its reference: python {name}

Needs numpy and onnxruntime. tensors.npz holds `ids` of the samples, their `input` [N,3,H,W], and
what `reference` and `candidate` answered to it.
"""

from pathlib import Path

import numpy as np
import onnxruntime

here = Path(__file__).resolve().parent
tensors = np.load(here / "tensors.npz")
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}
session = onnxruntime.InferenceSession(
    here / "model.onnx",
    options,
    providers=["CPUExecutionProvider"],
    disabled_optimizers={off},
)
answer = session.run(None, {{session.get_inputs()[0].name: tensors["input"]}})[0]
for index, name in enumerate(tensors["ids"]):
    reference = tensors["reference"][index][..., : answer.shape[-1]]
    error = np.abs(answer[index] - reference).max()
    recorded = np.abs(tensors["candidate"][index] - reference).max()
    print(f"{{name}}: largest difference {{error:.6g}} (recorded {{recorded:.6g}})")
'''
SCRIPT_NAME = "show.py"


def write_repro(folder: Path, subject: Subject) -> Path:
    """Write model, tensors and script of a subject; returns the script. The folder is made, and
    files of the same names are replaced.

    Raises:
        PillsnapError: a file cannot be written, or the candidate does not run.
    """
    images = subject.images
    given: Batch = subject.candidate.batch(images)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        ids=np.array(subject.ids),
        input=given,
        reference=subject.reference.answer(images),
        candidate=subject.candidate.network(given),
    )
    write_atomic(folder / "tensors.npz", content.getvalue())
    beside = {
        name: subject.model.resolve().parent / name
        for name in external_files(read_onnx(subject.model))
    }
    for name, source in {**beside, "model.onnx": subject.model}.items():
        with replace_atomic(folder / name) as temp:
            shutil.copyfile(source, temp)
    script = folder / SCRIPT_NAME
    runtime = subject.config.runtime
    level, off = runtime.graph_optimization_level, list(runtime.disabled_optimizers)
    text = _SCRIPT.format(name=SCRIPT_NAME, level=level, off=off)
    write_atomic(script, text.encode())
    return script
