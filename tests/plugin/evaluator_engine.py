"""An engine in one file, as a newcomer adds one: onnx's own evaluator opens what it is given.

`register_evaluator` adds it as `--engine evaluator`; the numpy engine's reference stands for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import EngineError, EngineMissing
from pillsnap.core.packages import installed_version
from pillsnap.engines import Batch, Entry, FindFile, Request, register
from tests.plugin.numpy_engine import open_reference

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

PACKAGES = {"protobuf": ("no-such-distribution", "protobuf"), "vpu-driver": ("no-such-driver",)}


class Evaluated:
    def __init__(self, model: ReferenceEvaluator) -> None:
        self.info: dict[str, Any] = {"providers": ["evaluator:numpy"]}
        self._model = model

    def run(self, batch: Batch) -> Batch:
        output: Batch = self._model.run(None, {self._model.input_names[0]: batch})[0]
        return output


def open_candidate(request: Request, file: FindFile) -> Evaluated:
    if request.cell.precision != "fp32":
        raise EngineError(
            "the evaluator computes in fp32 alone",
            where=request.cell.id,
            hint="use --engine onnx for other precisions",
        )
    from onnx.reference import ReferenceEvaluator

    return Evaluated(ReferenceEvaluator(file().content()))


def require_protobuf() -> None:
    if installed_version(PACKAGES["protobuf"]) is None:
        raise EngineMissing("the evaluator needs protobuf", hint="pip install protobuf")


def register_evaluator() -> None:
    entry = Entry(
        "evaluator",
        open_candidate,
        reference=lambda request: open_reference(request, None),
        require=require_protobuf,
        packages=PACKAGES,
        providers=("vpu",),
    )
    register(entry)
