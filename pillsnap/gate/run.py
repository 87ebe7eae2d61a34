"""A run of the gate, seen from one process: how a shard is run.

What the controller must know of it comes back as plain builtins, since xdist carries nothing else.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pillsnap.compare import compare_batches
from pillsnap.compare.loading import Load, Prepared, load_batches
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.records import Columns, write_records
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import task_of
from pillsnap.config.cells import Shard
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineMissing, MissingCheckpoint, PillsnapError, WrongCandidate
from pillsnap.core.files import write_atomic
from pillsnap.core.hashes import sha256_file
from pillsnap.data.datasets import Sample
from pillsnap.data.sampling import select_hard
from pillsnap.engines import Batch
from pillsnap.engines.timing import Stopwatch
from pillsnap.engines.torch.builders import is_built
from pillsnap.gate import journal
from pillsnap.gate.bundle import ShardWriter
from pillsnap.gate.first_batch import FirstBatch
from pillsnap.gate.graph import check_graph
from pillsnap.gate.opened_models import FindModel, Sides
from pillsnap.gate.plan import Plan


@dataclass(eq=False)
class GateRun:
    """One process's view of a run: samples and opened models are kept for the next shard.

    Attributes:
        threads: intra-op threads of every engine in this process.
        run_dir: this run's own folder; the same for every worker.
        contended: other processes of this run share the machine, so that times tell little.
        resume: take over what an earlier, unfinished part of this run has yielded.
        load: where batches come from, if not from the samples' files.
        planned: what shards consist of, if the validation data are not read here.
        find_model: gives the file of a cell, if none is exported here.
        store: takes the path and the bytes of a shard's records; PillsnapError where it cannot.
    """

    config: Config
    selection: Selection
    _: KW_ONLY
    threads: int
    run_dir: Path
    contended: bool = False
    resume: bool = False
    load: Load | None = None
    planned: Plan | None = None
    find_model: FindModel | None = None
    store: Callable[[Path, bytes], None] = write_atomic

    def __post_init__(self) -> None:
        self.plan = self.planned or Plan(self.config, self.selection)
        bundle = self.plan.bundle
        from_files: Load = partial(load_batches, threads=self.threads)
        self._load = self.load or (from_files if bundle is None else bundle.load)
        self._hard: dict[str, list[Sample]] = {}
        # What the shard that runs is of, so that a failure can be laid to a file.
        self._running: dict[str, Any] = {}
        self.sides = Sides(
            config=self.config,
            selection=self.selection,
            threads=self.threads,
            run_dir=self.run_dir,
            load=self._load,
            bundle=bundle,
            verified=self.plan.files,
            find_model=self.find_model,
            labelled=self.plan.labelled,
        )

    def run(self, shard: Shard) -> Outcome:
        """Run one shard and keep what it yields, or take over what it has yielded before."""
        outcome = self.recall(shard) if self.resume else None
        return outcome or self.keep(shard, self.measure(shard))

    def measure(self, shard: Shard) -> Outcome:
        """Run one shard and store its records; a problem comes back as the outcome's failure."""
        started = time.perf_counter()
        self._running = {}
        try:
            outcome = self._run(shard)
        except (MissingCheckpoint, EngineMissing) as error:
            outcome = Outcome(shard.id, ("skipped", str(error)))
        except WrongCandidate as error:
            outcome = Outcome(shard.id, ("breach", str(error)), **self._running)
        except PillsnapError as error:
            outcome = Outcome(shard.id, ("unmeasured", str(error)), **self._running)
        return replace(outcome, seconds=time.perf_counter() - started)

    def keep(self, shard: Shard, outcome: Outcome) -> Outcome:
        """Complete what a shard yielded by what is found out of the model alone, once a run, and
        note it in the journal."""
        if shard.index == 1 and outcome.failure is None:
            started = time.perf_counter()
            graph = self._graph(shard, outcome.candidate)
            seconds = outcome.seconds + time.perf_counter() - started
            outcome = replace(outcome, graph=graph, seconds=seconds)
        if outcome.inputs is not None:
            journal.write_outcome(self.run_dir, shard.id, outcome.as_dict())
        return outcome

    def _run(self, shard: Shard) -> Outcome:
        cell, compare = shard.cell, self.config.compare
        remembered = self.sides.reference(cell)
        reference = remembered.reference
        samples = self._of_shard(shard, remembered)
        labelled, notes = self.plan.in_classes(samples, cell.stage, reference.class_names)
        candidate = self.sides.candidate(cell)
        self._running = {"reference": reference.engine.info, "candidate": candidate.info}
        layout, nms = candidate.info.get("layout"), self.config.nms
        remembered = self.sides.reference_for(cell, layout)
        reference = remembered.reference
        recorder = task_of(cell.stage).recorder_for(reference, nms, layout)
        first = FirstBatch(cell, candidate, remembered, recorder, compare.exactness_images)
        candidate.runs = []  # of this shard
        folder = self.selection.save_reference
        kept = None if folder is None or cell.hard else ShardWriter(folder, shard)

        def see(batch: Prepared, ref: Batch, cand: Batch) -> None:
            notes.extend(f"{cell.stage}: {remark}" for remark in sorted(batch.remarks))
            if kept is not None:
                kept.add(batch, ref)
            if shard.index == 1:
                first.see(batch, ref, cand)

        batches = self._load(labelled, reference.transform, compare.batch_size)
        compared = compare_batches(batches, remembered.outputs, candidate, recorder, see)
        exact = first.exact()
        if first.problem is not None:
            notes.append(f"{cell.stage}: {first.problem}")
        if kept is not None:
            kept.write(exact)
        file, digest = self._write(shard, compared.columns)
        whole = compared.columns is not None and not compared.unreadable
        contents = compared.columns["content"] if compared.columns is not None else ()
        return Outcome(
            shard.id,
            samples=len(samples),
            inputs=_inputs(samples, [row.tobytes().hex() for row in contents]) if whole else None,
            file=file,
            sha256=digest,
            unreadable=compared.unreadable,
            non_finite=compared.non_finite,
            reference=reference.engine.info,
            candidate=candidate.info,
            transform=asdict(reference.transform),
            strides=list(reference.strides),
            exactness=first.exactness(exact),
            batching=first.batching,
            notes=list(dict.fromkeys(notes)),
            timing=self._timing(candidate, first),
        )

    def _graph(self, shard: Shard, candidate: Mapping[str, Any]) -> dict[str, Any] | None:
        return check_graph(self.config, self.selection, shard.cell, candidate, self.run_dir)

    def _timing(self, candidate: Stopwatch, first: FirstBatch) -> dict[str, Any]:
        found = first.timing(
            # Times of a machine that others used are not worth remembering.
            reference=not self.contended and self.plan.bundle is None,
            # Of a cell of its own it is known.
            float32=not self.contended and "fp32" not in self.selection.precisions,
        )
        return {"runs": [list(run) for run in candidate.runs], **found}

    def _of_shard(self, shard: Shard, remembered: CachedReference) -> Sequence[Sample]:
        cell = shard.cell
        if not cell.hard:
            return self.plan.of_shard(shard)
        if cell.stage not in self._hard:
            compare = self.config.compare
            pool = self.plan.hard_pool(cell.stage)
            top = remembered.top_probabilities(
                pool,
                self._load,
                compare.batch_size,
                first=(shard.index - 1) * len(pool) // shard.count,
            )
            self._hard[cell.stage] = select_hard(pool, top, compare)
        return self.plan.part(self._hard[cell.stage], shard)

    def recall(self, shard: Shard) -> Outcome | None:
        """What this shard yielded before the run was cut off, if all of it still stands.

        Hard samples are found anew: which they are takes the reference, which remembers them.
        """
        anew = shard.cell.hard or is_built(self.config, shard.cell.stage)
        content = None if anew else journal.read_outcome(self.run_dir, shard.id)
        if content is None:
            return None
        outcome = Outcome(**content)
        try:
            samples = self.plan.of_shard(shard)
            inputs = _inputs(samples, [sha256_file(sample.path) for sample in samples])
            same = outcome.file is not None and sha256_file(Path(outcome.file)) == outcome.sha256
        except PillsnapError:
            return None
        return outcome if same and inputs == outcome.inputs else None

    def _write(self, shard: Shard, columns: Columns | None) -> tuple[str, str] | tuple[None, None]:
        if columns is None:
            return None, None
        path = self.run_dir / "records" / f"{shard.id}.records"
        return str(path), write_records(path, columns, self.store)


def _inputs(samples: Sequence[Sample], contents: Sequence[str]) -> str:
    """SHA-256 of what a shard's figures come from: ids, labels and files, in order."""
    digest = hashlib.sha256()
    for sample, content in zip(samples, contents, strict=True):
        digest.update(repr((sample.id, content, sample.label, sample.boxes)).encode())
    return digest.hexdigest()
