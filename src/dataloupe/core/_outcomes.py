"""What the retrainings did."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from dataloupe._errors import BadInput
from dataloupe._typing import Array, Facts, Ids
from dataloupe.core._arrays import as_array
from dataloupe.core._attribution import on_targets
from dataloupe.core._ids import check_ids
from dataloupe.core._learner import Removal
from dataloupe.core._question import Question
from dataloupe.core._settings import check_settings, checked
from dataloupe.core._subsets import Subsets

OK, DIVERGED = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """What k treatments times r seeds did to m target rows.

    ``values[k, r, m]`` float32; ``status[k, r]`` is 0 (ok) or 1 (diverged: kept and counted, its values NaN);
    ``subsets`` are the treatments, ``removal`` what leaving an example out meant, ``facts`` what made them: the record of
    the question (``provenance``) and of the trainings.

    Raises ``BadInput`` dl-401 (shapes), dl-402 (NaN in a run that is marked ok).

    >>> outcomes = Outcomes.from_arrays(np.array([[True, False], [False, True]]), np.array([[1.0], [2.0]]))
    >>> outcomes.mean().tolist()
    [[1.0], [2.0]]
    """

    subsets: Subsets
    values: Float[np.ndarray, "k r m"]
    status: UInt8[np.ndarray, "k r"]
    removal: Removal = "repack"
    facts: Facts = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, and that what is marked ok is finite."""
        check_settings(self, "dl-510")
        shapes = [
            np.shape(part) if isinstance(part, np.ndarray) else None for part in (self.values, self.status)
        ]
        values, status = shapes
        if values is None or len(values) != 3 or status != values[:2] or values[0] != self.subsets.count:
            kinds = [type(part).__name__ for part in (self.values, self.status)]
            found = [
                kind if shape is None else f"shape {shape}" for kind, shape in zip(kinds, shapes, strict=True)
            ]
            raise BadInput(
                "dl-401",
                asked=f"outcomes of {self.subsets.count} subsets",
                found=f"values of {found[0]}, status of {found[1]}",
                do="give values [k, r, m] and status [k, r] with k subsets",
            )
        bad = ~np.isfinite(self.values).all(axis=2) & (self.status == OK)
        if bad.any():
            k_bad, r_bad = (int(i) for i in np.argwhere(bad)[0])
            raise BadInput(
                "dl-402",
                asked="finite outputs of runs marked ok",
                found=f"NaN or infinity in subset {k_bad}, seed {r_bad}",
                do="mark the run as diverged (status 1) or look at why it is not finite",
            )

    @classmethod
    @checked("dl-401")
    def from_arrays(
        cls, masks: Any, values: Any, *, removal: Removal = "repack", question: Question | None = None
    ) -> "Outcomes":
        """A user's own truth: masks ``[k, n]`` boolean, values ``[k, m]`` or ``[k, r, m]`` (NaN rows = diverged).

        ``question`` says whose outcomes these are, so that scores of other data, targets or outputs are refused.
        """
        given = as_array(values, "values")
        values = given[:, None] if given.ndim == 2 else given
        if values.ndim != 3 or given.dtype.kind not in "biuf":
            raise BadInput(
                "dl-401",
                asked="values [k, m] or [k, r, m]",
                found=f"{given.dtype} of shape {given.shape}",
                do="give real numbers of that shape",
            )
        values = values.astype(np.float32)
        status = (~np.isfinite(values).all(axis=2)).astype(np.uint8)
        subsets = Subsets.listed(masks)
        if question is not None and (subsets.n, values.shape[2]) != (question.n, question.m):
            raise BadInput(
                "dl-401",
                asked=f"outcomes of a question of {question.n} examples and {question.m} target rows",
                found=f"masks over {subsets.n} examples and values of {values.shape[2]} target rows",
                do="give the masks and values of that question",
            )
        return cls(
            subsets,
            np.where(status[:, :, None] == OK, values, np.float32(np.nan)),
            status,
            removal,
            {} if question is None else {"provenance": question.provenance},
        )

    @property
    def provenance(self) -> Facts:
        """The record of the question that was measured (:attr:`Question.provenance`); empty of a user's own arrays.

        Values of fewer target rows than were measured are of other targets, which nothing records.
        """
        record: Facts = {**self.facts.get("provenance", {})}
        if "question" in self.facts:
            record.setdefault("question", self.facts["question"])
        if record.get("rows", self.m) != self.m:
            return {name: v for name, v in record.items() if name not in ("targets", "rows", "question")}
        return record

    @property
    def repeats(self) -> int:
        """Seeds per subset."""
        return self.values.shape[1]

    @property
    def m(self) -> int:
        """Target rows."""
        return self.values.shape[2]

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return int((self.status != OK).sum())

    def complete(self) -> "Outcomes":
        """Only the subsets whose every seed is ok. Judges use it, and say how many they left out."""
        good = (self.status == OK).all(axis=1)
        if good.all():
            return self
        if not good.any():
            raise BadInput(
                "dl-403",
                asked="outcomes to judge or fit",
                found=f"all {len(good)} subsets have a diverged run",
                do="lower the learning rate",
            )
        kept = np.flatnonzero(good)
        return self._rows(kept)

    def mean(self) -> Float[np.ndarray, "k m"]:
        """The mean over the seeds that are ok; NaN where none is."""
        weights = (self.status == OK).astype(np.float32)[:, :, None]
        total = weights.sum(axis=1)
        sums = np.where(weights > 0, self.values, 0).sum(axis=1)
        return np.where(total > 0, sums / np.maximum(total, 1), np.float32(np.nan)).astype(np.float32)

    @checked("dl-404")
    def split(self, count: int) -> "tuple[Outcomes, Outcomes]":
        """The first ``count`` subsets and the rest: one part to tune on, one to report."""
        if not 0 < count < len(self.values):
            raise BadInput(
                "dl-404",
                asked=f"a split at {count}",
                found=f"{len(self.values)} subsets",
                do="split inside the range",
            )
        return self._rows(slice(0, count)), self._rows(slice(count, None))

    def on(self, targets: Ids) -> "Outcomes":
        """The outcomes of some target rows, as :meth:`DenseAttribution.on` takes the scores of some."""
        rows = check_ids(targets, self.m, "target rows")
        facts = dict(self.facts)
        if "provenance" in facts:
            facts["provenance"] = on_targets(self.provenance, rows)
            facts.pop("question", None)
        return dataclasses.replace(self, values=self.values[:, :, rows], facts=facts)

    def _rows(self, rows: slice | Array) -> "Outcomes":
        facts = dict(self.facts)
        known = facts.get("trainings")
        if known is not None:  # which trainings these are, by their numbers in the recipe
            numbers = np.asarray(known.get("rows", np.arange(len(self.values))))[rows]
            facts["trainings"] = known | {"rows": numbers.tolist(), "count": len(numbers)}
        return dataclasses.replace(
            self,
            subsets=self.subsets.part(rows),
            values=self.values[rows],
            status=self.status[rows],
            facts=facts,
        )

    def blocks(self, rows: int = 256) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
        """(masks, mean values) in blocks of subsets, for sums over very many of them."""
        means = self.mean()
        for start in range(0, len(means), rows):
            part = slice(start, min(start + rows, len(means)))
            yield self.subsets.masks(part), means[part]
