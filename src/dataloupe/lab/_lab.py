# budget: one door for all that is computed and remembered; 407 lines
"""The lab: engine, store, runner and progress in one; a folder (or URL) that resumes by itself."""

import dataclasses
import functools
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from dataloupe._errors import BadInput, StoreError
from dataloupe._identity import identity
from dataloupe._typing import Array, Facts
from dataloupe.core import (
    Embeddings,
    Features,
    Model,
    ModelSource,
    Origin,
    Outcomes,
    Question,
    Runner,
    Scale,
    Side,
    Sketch,
    Subsets,
    Swept,
    TorchModel,
    Tuned,
    Tuning,
    Use,
    checked,
    isolated,
    model_key,
    must_show_state,
    must_train,
)
from dataloupe.engine import (
    HOST,
    Backend,
    Compute,
    Precision,
    Unit,
    Work,
    choose,
    embeddings,
    environment,
    finetune,
    gradients,
    rebuilt,
    run_unit,
    takes_steps,
)
from dataloupe.lab._features import Keeper
from dataloupe.lab._job import Job, guarded, job_of, mask_digest, unchanged_since, unit_name
from dataloupe.lab._records import (
    backend_record,
    check_unit,
    model_types,
    nearest_differences,
    outcome_types,
    spans_of,
    unfit_record,
)
from dataloupe.lab._results import read_result, read_result_facts, write_result
from dataloupe.lab._settings import check_settings
from dataloupe.run import Processes, Progress, Serial, why_not_sendable
from dataloupe.store import open_store

BackendName = Literal["auto", "loop", "stacked", "processes"]
_GROUP = 32
_SPAWN_SECONDS = 5.0


class Lab:
    """Trains, measures and remembers, in a folder that resumes by itself.

    ``where`` is a folder or any fsspec URL. ``backend="auto"`` times a few steps of each back end and records
    the fastest before the first unit; a rerun goes on with what was recorded, so an interrupted run ends with
    the same files, bit for bit. It uses ``workers`` processes (default: one per core) where the work outlasts
    their start and the question can be sent to them; ``"processes"`` insists, ``"loop"`` and ``"stacked"`` stay
    in this one. ``runner`` carries the units elsewhere; ``keep_models`` keeps every model that outcomes are measured on.
    ``device`` and ``precision`` are those of gradients (:class:`Compute`, dl-231); training stays on the CPU. ``force``
    goes on where a guard on gradients would stop, and lets the certificate tell.

    Raises ``StoreError`` dl-225 if the folder was made by another torch, device or processor kind.

    >>> import tempfile
    >>> from dataloupe import data, learners, outputs
    >>> train, test = data.digits()
    >>> question = Question(learners.SklearnLearner.ridge_classifier(), train, test[:2], outputs.margin)
    >>> lab = Lab(tempfile.mkdtemp(), backend="loop", progress=False)
    >>> lab.outcomes(question, Subsets(n=question.n, count=3)).values.shape
    (3, 1, 2)
    """

    def __init__(  # budget: 9 parameters: where, how, by whom and how carefully, each with a default
        self,
        where: str | Path,
        *,
        backend: BackendName | Backend = "auto",
        workers: int | None = None,
        runner: Runner | None = None,
        keep_models: bool = False,
        progress: bool = True,
        device: str | Compute = "cpu",
        precision: Precision = "model",
        force: bool = False,
    ) -> None:
        named = isinstance(backend, str) and backend in get_args(BackendName)
        if not (named or isinstance(backend, Backend)):
            raise BadInput(
                "dl-226",
                asked=f"the back end {backend!r}",
                found="none of that name",
                do="use auto, loop, stacked or processes",
            )
        check_settings(workers, runner, {"keep_models": keep_models, "progress": progress, "force": force})
        self.where = where
        self.store = open_store(where)
        self._backend = backend
        self._workers = workers if workers is not None else Processes().workers
        self._runner = runner
        self._keep = keep_models
        self._progress = progress
        self._compute = dataclasses.replace(Compute.of(device, precision), force=force)
        self._recent: tuple[str, Sequence[Model]] = ("", [])

    # --- what methods ask for ---

    @checked("dl-227")
    def outcomes(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Outcomes:
        """What training on every subset, with ``repeats`` seeds each, does to the question's outputs.

        Units that are there are read and checked, the others trained. Raises ``CapabilityError`` dl-207 if the
        learner only holds finished models, ``BadInput`` dl-227 if the subsets are of other data,
        dl-230 if models are to be kept of several seeds per subset.
        """
        job = self._measured(question, subsets, repeats)
        values = np.empty((subsets.count * repeats, question.m), dtype=np.float32)
        status = np.empty(subsets.count * repeats, dtype=np.uint8)
        for start, stop, arrays in self._units(job, keep=self._keep):
            values[start:stop], status[start:stop] = arrays["values"], arrays["status"]
        shape = (subsets.count, repeats)
        return Outcomes(subsets, values.reshape(*shape, -1), status.reshape(shape), *job.source)

    @checked("dl-227")
    def blocks(self, question: Question, subsets: Subsets, *, repeats: int = 1) -> Iterator[Outcomes]:
        """The same outcomes block by block in order, never all in memory; raises as :meth:`outcomes` does."""
        return self._in_blocks(self._measured(question, subsets, repeats))

    def _in_blocks(self, job: Job) -> Iterator[Outcomes]:
        """Units cut at whole subsets."""
        values, status, first = np.empty((0, job.question.m), np.float32), np.empty(0, np.uint8), 0
        removal, facts = job.source
        for _, _, unit in self._units(job, keep=self._keep):
            values, status = np.concatenate([values, unit["values"]]), np.append(status, unit["status"])
            count = len(values) // job.repeats
            if count:
                subsets, cut = job.subsets.part(slice(first, first + count)), count * job.repeats
                shape = (count, job.repeats)
                there = values[:cut].reshape(*shape, -1), status[:cut].reshape(shape)
                rows = {"rows": list(range(first, first + count)), "count": count}
                yield Outcomes(subsets, *there, removal, facts | {"trainings": facts["trainings"] | rows})
                values, status, first = values[cut:], status[cut:], first + count

    @checked("dl-227")
    def models(self, question: Question, subsets: Subsets) -> Sequence[Model]:
        """One model a subset, trained or read; a model source gives its own.

        Raises ``CapabilityError`` dl-221 for a learner whose models' parameters cannot be seen.
        """
        learner = question.learner
        if isinstance(learner, ModelSource):
            return learner.models()[: subsets.count]
        stepped = must_show_state(learner)
        blank, fingerprint = stepped.init(seed=0), question.train.fingerprint
        trained_by = question.provenance["learner"]
        found: list[Model] = []
        for start, stop, arrays in self._units(job_of("models", question, subsets, 1), keep=True):
            masks = subsets.masks(slice(start, stop))
            origins = [Origin(fingerprint, mask, trained_by) for mask in masks]
            found.extend(rebuilt(stepped, blank, arrays, i, origin) for i, origin in enumerate(origins))
        return found

    @isolated()
    @guarded
    def features(self, question: Question, subsets: Subsets, k: int, sketch: Sketch) -> Features:
        """Sketched gradients at model k of the subsets, kept chunk by chunk."""
        made = functools.partial(self._model, question, subsets, k)
        key = model_key(question, subsets, k)
        return Keeper(self.store, question, key, made, sketch, self._compute).features()

    @isolated()
    @guarded
    def gradients(
        self,
        question: Question,
        subsets: Subsets,
        k: int,
        side: Side,
        use: Use,
        scale: Scale | None = None,
    ) -> Swept:
        """Every row's gradient at model k of the subsets, as factors, to ``use``."""
        return gradients(question, self._model(question, subsets, k), side, use, scale, self._compute)

    @isolated()
    def finetune(
        self, question: Question, models: Sequence[TorchModel], tuning: Tuning, seeds: Sequence[int]
    ) -> Tuned:
        """The models, each tuned with a seed of its own on the question's training rows, many in one program."""
        return finetune(models, question.train, tuning, seeds)

    @isolated()
    @guarded
    def embeddings(self, question: Question, subsets: Subsets, k: int) -> Embeddings:
        """Inputs of the last layer at model k of the subsets."""
        return embeddings(question, self._model(question, subsets, k))

    # --- what is remembered ---

    def put(self, kind: str, made_by: Any, arrays: dict[str, Array], facts: Facts) -> None:
        """Remember arrays under what made them (the same again changes nothing)."""
        write_result(self.store, self._folder(kind, made_by), made_by, arrays, facts)

    def get(self, kind: str, made_by: Any) -> tuple[dict[str, Array], Facts] | None:
        """What was remembered under it, or None."""
        folder = self._folder(kind, made_by)
        facts = read_result_facts(self.store, folder, made_by)
        return None if facts is None else (read_result(self.store, folder), facts)

    def entries(self, kind: str) -> list[tuple[Facts, Callable[[], dict[str, Array]]]]:
        """All that is remembered of a kind: its facts, and a function that reads its arrays."""
        pattern = re.compile(re.escape(kind) + "-[0-9a-f]{24}")
        folders = [folder for folder in self.store.folders() if pattern.fullmatch(folder)]
        every = ((folder, read_result_facts(self.store, folder)) for folder in folders)
        return [
            (facts, functools.partial(read_result, self.store, folder))
            for folder, facts in every
            if facts is not None
        ]

    def _folder(self, kind: str, made_by: Any) -> str:
        """Where it is remembered: apart for every device and precision, as answers may rest on gradients."""
        return f"{kind}-{identity(made_by if self._compute == HOST else [made_by, self._compute])}"

    # --- how it gets done ---

    def _measured(self, question: Question, subsets: Subsets, repeats: int) -> Job:
        """The trainings behind outcomes, if they can be done."""
        must_train(question.learner)
        if self._keep:
            must_show_state(question.learner)
        if self._keep and repeats > 1:
            raise BadInput(
                "dl-230",
                asked=f"to keep the models of {repeats} seeds per subset",
                found="models are kept and found by their subset alone",
                do="ask for one seed per subset, or open the lab with keep_models=False",
            )
        return job_of("outcomes", question, subsets, repeats)

    def _units(self, job: Job, *, keep: bool) -> Iterator[tuple[int, int, dict[str, Array]]]:
        """(first model, last, arrays) of every unit in order, the missing ones trained first."""
        types = model_types(job) if job.folder.startswith("models-") else outcome_types(job)
        if not spans_of(self.store.units(job.folder)):
            self._say_nearest(job)
        backend = self._decided(job)
        there = spans_of(self.store.units(job.folder), backend.unit)
        total = job.subsets.count * job.repeats
        spans = [(start, min(start + backend.unit, total)) for start in range(0, total, backend.unit)]
        missing = [span for span in spans if there.get(span[0], 0) < span[1]]
        if missing:
            self._check_environment(job)
            self._train(job, backend, missing, keep)
            there = spans_of(self.store.units(job.folder), backend.unit)
        for start, stop in spans:
            last = there.get(start, stop)
            name = unit_name(start, last)
            unit = self.store.read(job.folder, name)
            if unit is None or unit[1].get("masks") != mask_digest(job, start, last):
                raise StoreError(
                    "dl-229",
                    asked=f"the unit {job.folder}/{name}",
                    found="masks other than those its recipe makes" if unit else "no such file any more",
                    do="run the same again: what is missing is made again"
                    if unit is None
                    else f"remove {job.folder}/units/{name}.safetensors: the rerun makes it again",
                )
            check_unit(job.folder, name, unit[0], types, last - start)
            yield start, stop, {key: array[: stop - start] for key, array in unit[0].items()}

    def _train(self, job: Job, backend: Backend, missing: list[tuple[int, int]], keep: bool) -> None:
        work = Work(job.question, job.subsets, job.repeats, backend, keep, first=missing[0][0])
        models = keep and job.folder.startswith("models-")
        total = job.subsets.count * job.repeats
        todo = sum(stop - start for start, stop in missing)
        progress = Progress if self._progress else Progress.silent
        began, written = time.perf_counter(), 0.0
        with (
            unchanged_since(job) as check_data,
            progress(
                total,
                done=total - todo,
                file=lambda facts: self.store.write_facts(job.folder, "progress", facts),
            ) as bar,
        ):
            for place, unit in self._carrier(job, backend, missing).map(run_unit, work, missing):
                before = time.perf_counter()
                check_data()
                self._publish(job, missing[place], unit, models=models, keep=keep)
                written += time.perf_counter() - before
                bar.advance(missing[place][1] - missing[place][0])
        times = (self.store.read_facts(job.folder, "times") or {}).get("runs", [])
        if not isinstance(times, list):
            raise unfit_record(job.folder, "times", f"runs: {times!r}")
        seconds = {"models": todo, "seconds": time.perf_counter() - began, "writing": written}
        self.store.write_facts(job.folder, "times", {"runs": [*times, seconds]})

    def _publish(self, job: Job, span: tuple[int, int], unit: Unit, *, models: bool, keep: bool) -> None:
        name = unit_name(*span)
        facts = {"masks": mask_digest(job, *span), "models": list(span)}
        if keep and not models:
            other = job_of("models", job.question, job.subsets, 1)
            if name not in self.store.units(other.folder):
                self._record(other, self._decided(job))
                self.store.write(other.folder, name, {**unit.tensors, "status": unit.status}, facts)
        held = unit.tensors if models else {"values": unit.values}
        self.store.write(job.folder, name, {**held, "status": unit.status}, facts)

    def _carrier(self, job: Job, backend: Backend, missing: list[tuple[int, int]]) -> Runner:
        """Who trains the missing units: processes where that is asked for or pays."""
        if self._runner is not None:
            return self._runner
        lanes = min(max(1, self._workers // backend.threads), len(missing))
        speed = (self.store.read_facts(job.folder, "times-probe") or {}).get("seconds_per_model", 0.0)
        if not isinstance(speed, int | float):
            raise unfit_record(job.folder, "times-probe", f"seconds_per_model: {speed!r}")
        saved = speed * sum(stop - start for start, stop in missing) * (1 - 1 / lanes)
        pays = self._backend == "auto" and saved > _SPAWN_SECONDS and why_not_sendable(job.question) is None
        return Processes(lanes, backend.threads) if pays or self._backend == "processes" else Serial()

    def _decided(self, job: Job) -> Backend:
        """The back end on record, or a choice that is put on record before the first unit.

        What was recorded and made no unit yields to a back end that is asked for by name.
        """
        known = self.store.read_facts(job.folder, "backend")
        if known is not None and (self._backend == "auto" or self.store.units(job.folder)):
            return backend_record(job.folder, known).backend
        backend = self._choice(job)
        self._record(job, backend)
        return backend

    def _check_environment(self, job: Job) -> None:
        """Refuse to add units to those of another torch, device or processor."""
        known, here = self.store.read_facts(job.folder, "backend"), environment()
        there = here if known is None else backend_record(job.folder, known).environment
        differing = [
            f"{name}: {there.get(name)} there, {here[name]} here"
            for name in here
            if there.get(name) != here[name]
        ]
        if differing:
            raise StoreError(
                "dl-225",
                asked=f"to go on in {job.folder}",
                found="units made elsewhere: " + "; ".join(differing),
                do="go on where it was made, or start a new folder: mixed units would not be one experiment",
            )

    def _record(self, job: Job, backend: Backend) -> None:
        if self.store.read_facts(job.folder, "backend") is None or not self.store.units(job.folder):
            self.store.write_facts(job.folder, "made_by", job.made_by)
            self.store.write_facts(
                job.folder, "backend", {"backend": dataclasses.asdict(backend), "environment": environment()}
            )

    def _choice(self, job: Job) -> Backend:
        if isinstance(self._backend, Backend):
            return self._backend
        if self._backend == "auto":
            with unchanged_since(job):
                found = choose(job.question, job.subsets, job.subsets.count * job.repeats, self._workers)
            facts = {"seconds_per_model": found.seconds, "models_per_second": found.measured}
            self.store.write_facts(job.folder, "times-probe", facts)
            return found.backend
        stacked = self._backend != "loop" and takes_steps(job.question.learner)
        with isolated():  # not while another thread's training has set a number of its own
            inside = 1 if self._backend == "processes" else torch.get_num_threads()
        return Backend("stacked", _GROUP, inside, _GROUP) if stacked else Backend("loop", 1, inside, 1)

    def _say_nearest(self, job: Job) -> None:
        """Other settings simply miss; the nearest key's differences are shown, unless only the subsets are new."""
        near = nearest_differences(self.store, job) if self._progress else []
        if near:
            kind, lines = job.folder.split("-")[0], "; ".join(near[:4])
            sys.stderr.write(f"{kind}: new settings; the nearest here differ in {len(near)}: {lines}\n")

    def _model(self, question: Question, subsets: Subsets, k: int) -> Model:
        if isinstance(question.learner, ModelSource):
            return question.learner.models()[k]
        key = identity([question.training_identity, subsets])
        recent = self._recent  # read once: another thread may put other models there
        if recent[0] != key:
            recent = self._recent = key, self.models(question, subsets)
        return recent[1][k]
