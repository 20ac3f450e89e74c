"""Features that are kept: chunk by chunk, found by the model and by the rows themselves."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataloupe._errors import StoreError
from dataloupe._identity import NUMERICS, array_digest, canonical, identity
from dataloupe._typing import Array, Facts
from dataloupe.core import Chunked, Features, Model, Question, Side, Sketch, Store, map_inputs, merged
from dataloupe.engine import HOST, Compute, Featuriser, Pass, both_sides, environment, pairs_of, threads
from dataloupe.lab._records import check_threads, unfit_record, unfit_unit

CHUNK = 1024
"""So many rows are one unit of work: killed at any instant, a pass loses no more."""


@dataclasses.dataclass(frozen=True)
class Keeper:
    """Reads the features of one model that are there, and makes the others.

    A unit's folder is named by the model, the output and the sketch, the unit by what its rows hold. So rows that
    are added at the end leave the full chunks before them as they are, and so do other targets or checkpoints.
    """

    store: Store
    question: Question
    model_key: Any
    model: Callable[[], Model]
    sketch: Sketch
    compute: Compute = HOST

    def features(self) -> Features:
        """Both sides."""
        folder, names, chunks, slope, made = self._side("train")
        width, finite = made["width"], made["not_finite"] == 0
        there, there_names, there_chunks, _, asked = self._side("targets")
        targets = [
            self._read(there, name, (len(chunk), width), finite=asked["not_finite"] == 0)
            for name, chunk in zip(there_names, there_chunks, strict=True)
        ]
        sizes = tuple(map(len, chunks))
        train = Chunked(
            sizes, width, lambda i: self._read(folder, names[i], (sizes[i], width), finite=finite)
        )
        each, draws = made.get("probes", 0), None
        if each:
            rows = tuple(each * size for size in sizes)
            draws = Chunked(
                rows,
                width,
                lambda i: self._read(folder, _draws(names[i]), (rows[i], width), finite=finite),
            )
        return Features(train, slope, np.concatenate(targets), both_sides(made, asked), draws)

    def _side(self, side: Side) -> tuple[str, list[str], Sequence[Tensor], Array, Facts]:
        """(folder, names of the units, the rows of each, all slopes, facts), after what was missing is made."""
        output = self.question.on_train if side == "train" else self.question.output
        made_by = {
            "model": self.model_key,
            "output": canonical(output),
            "sketch": canonical(self.sketch),
            "compute": canonical(self.compute),
            "numerics": NUMERICS,
            **({"draws": "kept"} if side == "train" and output.repeats > 1 else {}),
        }
        folder = f"features-{identity(made_by)}"
        chunks = pairs_of(self.question, side).split(CHUNK)
        names = [self._name(side, chunk) for chunk in chunks]
        known = set(self.store.units(folder))
        missing = [i for i, name in enumerate(names) if _slope(name) not in known]
        if missing:
            self._make(folder, made_by, side, {names[i]: i for i in missing})
        slopes = [
            self._slopes(folder, _slope(name), len(chunk)) for name, chunk in zip(names, chunks, strict=True)
        ]
        facts = merged(*(facts for _, facts in slopes))
        return folder, names, chunks, np.concatenate([arrays["slope"] for arrays, _ in slopes]), facts

    def _name(self, side: Side, chunk: Tensor) -> str:
        data = self.question.train if side == "train" else self.question.targets
        rows = data.take(chunk[:, 0])
        held = [canonical(map_inputs(array_digest, rows.inputs)), canonical(rows.labels)]
        return identity([held, array_digest(chunk[:, 1])])

    def _make(self, folder: str, made_by: Facts, side: Side, missing: dict[str, int]) -> None:
        """Make units, a pass over their rows each; the slopes come last and say that the unit is done."""
        known = self.store.read_facts(folder, "made_by")
        here: Facts = {
            "environment": environment() | self.compute.facts(),
            "threads": torch.get_num_threads(),
        }
        on: Facts = here if known is None else self._recorded(folder, known)
        if on["environment"] != here["environment"]:
            raise StoreError(
                "dl-225",
                asked=f"to go on in {folder}",
                found=f"features made elsewhere: {on['environment']} there, {here['environment']} here",
                do="go on where they were made, or start a new folder: mixed units would not be one experiment",
            )
        if known is None:
            self.store.write_facts(folder, "made_by", {"on": on, "made_by": made_by})
        with threads(on["threads"]):
            ready = Featuriser(Pass(self.question, self.model(), side, self.compute), self.sketch)
            for name, i in missing.items():
                made = ready.rows(slice(i * CHUNK, (i + 1) * CHUNK))
                facts = made.facts | {"width": made.features.shape[1]}
                if made.draws is not None:
                    self.store.write(folder, _draws(name), {"features": made.draws}, {})
                    facts |= {"probes": len(made.draws) // len(made.features)}
                self.store.write(folder, name, {"features": made.features}, {})
                self.store.write(folder, _slope(name), {"slope": made.slope}, facts)

    def _recorded(self, folder: str, facts: Facts) -> Facts:
        """Where and with how many threads the units there were made (dl-614)."""
        on = facts.get("on")
        if not isinstance(on, dict) or not isinstance(on.get("environment"), dict):
            raise unfit_record(folder, "made_by", "no environment in it")
        check_threads(folder, "made_by", on.get("threads"))
        return on

    def _read(self, folder: str, name: str, shape: tuple[int, int], *, finite: bool) -> Array:
        """The features of a unit, ``[rows, width]``. Raises ``StoreError`` dl-615."""
        features = self._unit(folder, name)[0].get("features")
        if features is None or features.dtype.kind != "f" or features.shape != shape:
            raise unfit_unit(folder, name, "features", features, f"floats of shape {shape}")
        if finite and not np.isfinite(features).all():
            raise unfit_unit(folder, name, "features", "NaN or infinity", "finite numbers, as its facts say")
        return features

    def _slopes(self, folder: str, name: str, rows: int) -> tuple[dict[str, Array], Facts]:
        """The slopes of a unit, ``[rows]``, and the facts of its features. Raises ``StoreError`` dl-615."""
        arrays, facts = self._unit(folder, name)
        slope = arrays.get("slope")
        if slope is None or slope.dtype.kind != "f" or slope.shape != (rows,):
            raise unfit_unit(folder, name, "slope", slope, f"floats of shape ({rows},)")
        for count, least in {"width": 1, "not_finite": 0, "zero_rows": 0, "probes": 0}.items():
            number = facts.get(count, 0 if count == "probes" else None)
            if type(number) is not int or number < least:
                raise unfit_unit(folder, name, count, f"{number!r} in its facts", "a whole number")
        if facts["not_finite"] == 0 and not np.isfinite(slope).all():
            raise unfit_unit(folder, name, "slope", "NaN or infinity", "finite numbers, as its facts say")
        return arrays, facts

    def _unit(self, folder: str, name: str) -> tuple[dict[str, Array], Facts]:
        found = self.store.read(folder, name)
        if found is None:
            raise StoreError(
                "dl-229",
                asked=f"the unit {folder}/{name}",
                found="no such file any more",
                do=f"remove the folder {folder}: the rerun makes it again",
            )
        return found


def _slope(name: str) -> str:
    """The unit of a chunk's slopes."""
    return f"{name}.slope"


def _draws(name: str) -> str:
    """The unit of what stands for a chunk's draws."""
    return f"{name}.draws"
