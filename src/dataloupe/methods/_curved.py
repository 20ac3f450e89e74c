"""The curvature of single models, in pieces that the lab remembers: a killed run loses no more than one pass."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import NUMERICS, array_digest, canonical
from dataloupe._typing import Array, Facts
from dataloupe.core import Contribution, Lab, Question, Scale, Side, Subsets, Use, merged, model_key
from dataloupe.methods._ensemble import curvatures, probe_questions, roots
from dataloupe.solve import Block, Curvature, Rotated, Sums, as_arrays, from_arrays, squares, totals

NUMBERS = 1 << 27
"""So many numbers of targets' gradients, or of their products with the training rows, are in memory at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curved:
    """Model k of the subsets. Every piece is found by what decides it, and never by how many models there are."""

    question: Question
    lab: Lab
    subsets: Subsets
    k: int
    curved: bool

    # --- what is known of the model ---

    @property
    def finite(self) -> bool:
        """Whether all gradients of both sides are numbers: they are not where a model diverged."""
        return bool(self._start[1]["finite"] and self._asked["finite"])

    @property
    def slope(self) -> Float[np.ndarray, " n"]:
        """Minus dLoss/doutput of every training row."""
        return self._start[0].astype(np.float64)

    @property
    def facts(self) -> Facts:
        """How the gradients of both sides were made."""
        return merged(self._start[1], self._asked)

    def curvature(self) -> Curvature:
        """The eigenvectors and the eigenvalues."""
        known = self._get("spectrum", self._made_by)
        return Curvature(self._blocks(), known[0] if known else self._second(None)[0])

    # --- what is asked of it ---

    def along(
        self, directions: Float[np.ndarray, "n q"], ridges: Sequence[float]
    ) -> Float[np.ndarray, "g q m"]:
        """sum_i score_ji directions_iq for every relative damping: no scores are made, and a further one costs little."""
        known = self._get("sums", self._made_by | {"directions": array_digest(directions)})
        sums = known[0] if known else self._second(directions)[1]
        along = {name: torch.from_numpy(np.asarray(one)) for name, one in sums.items()}
        curvature = self.curvature()
        inverses = [curvature.inverse(ridge) for ridge in ridges]
        pieces = (self._turned(self.question, rows, curvature) for rows in self._pieces(self.question))
        return np.concatenate([piece.along(along, inverses) for piece in pieces], axis=2)

    def values(self, damping: float) -> Iterator[tuple[slice, Float[np.ndarray, "b n"]]]:
        """phi' (H + damping)^-1 g of some targets with every training row, piece by piece."""
        asked = {**self._made_by, **self._targets, "damping": damping}
        for rows in self._pieces(self.question):
            made_by = asked | {"rows": [rows.start, rows.stop]}
            known = self._get("values", made_by)
            if known:
                yield rows, known[0]["values"]
                continue
            found = self._products(self.question, rows, damping, "train")
            self._put("values", made_by, {"values": found}, {})
            yield rows, found

    def removed(
        self, ids: Int[np.ndarray, " s"], slope: Float[np.ndarray, " n"], damping: float
    ) -> Float[np.ndarray, " m"]:
        """What removing some rows together does to every target: one Newton step with them taken out of H, too.

            - phi' (H - G_S' W_S G_S + ridge)^-1 G_S' slope_S = - phi' (H + ridge)^-1 G_S' (I - W_S K_SS)^-1 slope_S

        with K_SS = G_S (H + ridge)^-1 G_S'. Raises ``BadInput`` dl-738 if nothing of H would be left in some
        direction: it holds the rows' own curvature only as nearly as its coordinates tell it.
        """
        if self._probes:
            return self._removed_probes(ids, slope, damping)
        w = self._weights[ids].astype(np.float64)
        inside = np.eye(len(ids)) - np.sqrt(w)[:, None] * self._kernel(ids, damping) * np.sqrt(w)
        _check_left(inside, len(ids))
        moved = np.sqrt(w) * np.linalg.solve(inside, slope[ids] / np.sqrt(w))
        return -np.concatenate(
            [values[:, ids].astype(np.float64) @ moved for _, values in self.values(damping)]
        )

    def _removed_probes(
        self, ids: Int[np.ndarray, " s"], slope: Float[np.ndarray, " n"], damping: float
    ) -> Float[np.ndarray, " m"]:
        """The same where H holds probes Y ``[s q, p]`` of the rows, and not their gradients G:

        - phi' M (G_S' slope_S + Y' (I - Y M Y')^-1 Y M G_S' slope_S),    M = (H + ridge)^-1
        """
        rows = self.question.train[ids]
        held = [dataclasses.replace(one, targets=rows, output=one.on_train) for one in self._probes]
        own = dataclasses.replace(self.question, targets=rows, output=self.question.on_train)
        q = len(held)
        across = np.concatenate([self._between(one, own, damping) for one in held]) / np.sqrt(q)  # [q s, s]
        kernel = np.block([[self._between(a, b, damping) for b in held] for a in held]) / q  # [q s, q s]
        inside = np.eye(len(kernel)) - (kernel + kernel.T) / 2
        _check_left(inside, len(ids))
        moved = np.linalg.solve(inside, across @ slope[ids]) / np.sqrt(q)  # [q s]
        to_targets = np.concatenate([self._between(one, self.question, damping) for one in held])  # [q s, m]
        plain = np.concatenate(
            [values[:, ids].astype(np.float64) @ slope[ids] for _, values in self.values(damping)]
        )
        return -(plain + moved @ to_targets)

    # --- how it is made ---

    @functools.cached_property
    def _probes(self) -> list[Question]:
        """The questions whose train output is one of the probes that H holds, if it holds any."""
        return probe_questions(self.question, self.curved)

    @functools.cached_property
    def _start(self) -> tuple[Array, Facts]:
        """First pass: slopes and facts; the eigenvectors are put into the lab."""
        known = self._get("slope", self._made_by)
        if known:
            return known[0]["slope"], known[1]
        sums = Sums()
        held = self._held_sweep(lambda name, found, _: sums.add(name, found))
        slope, made = self._sweep("train", lambda *_: None) if self._probes else held
        finite = bool(np.isfinite(slope).all()) and sums.finite
        if finite:
            self._put("basis", self._made_by, as_arrays(sums.blocks()), {})
        facts = {
            **made,
            "finite": finite,
            "shapes": {name: list(shape) for name, shape in sums.shapes.items()},
        }
        self._put("slope", self._made_by, {"slope": slope}, facts)
        return slope, facts

    @functools.cached_property
    def _asked(self) -> Facts:
        """A pass over the targets: whether their gradients are numbers, and how they were made."""
        made_by = self._made_by | self._targets
        known = self._get("targets", made_by)
        if known:
            return known[1]
        finite = torch.ones((), dtype=torch.bool)

        def use(_: str, found: list[Contribution], __: slice) -> None:
            for part in (part for one in found for part in one if isinstance(part, Tensor)):
                finite.logical_and_(part.isfinite().all())

        facts = {**self._sweep("targets", use)[1], "finite": bool(finite)}
        self._put("targets", made_by, {}, facts)
        return facts

    def _blocks(self) -> dict[str, Block]:
        known = self._get("basis", self._made_by)
        return from_arrays(self._start[1]["shapes"], known[0] if known else {})

    def _second(
        self, directions: Float[np.ndarray, "n q"] | None
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Second pass: the eigenvalues, and sums of gradients along directions, if there are any."""
        repeats = self.question.on_train.repeats  # draws come as g_r / R, and H takes mean_r g_r^2
        weights = torch.from_numpy(self._weights * repeats / max(1, len(self._probes))).float()
        along = None if directions is None else torch.from_numpy(directions).float()
        blocks, values, sums = self._blocks(), dict[str, Tensor](), dict[str, Tensor]()

        def use(name: str, found: list[Contribution], place: slice) -> None:
            turned = blocks[name].turned(found)
            _grow(values, name, squares(turned, weights[place]).double())
            if along is not None and not self._probes:
                _grow(sums, name, totals(turned, along[place]))

        def add(name: str, found: list[Contribution], place: slice) -> None:
            _grow(sums, name, totals(blocks[name].turned(found), along[place]))  # type: ignore[index]

        for question in self._probes or [self.question]:
            self._sweep("train", use, question=question)
        if along is not None and self._probes:
            self._sweep("train", add)
        both = [{name: one.numpy() for name, one in found.items()} for found in (values, sums)]
        self._put("spectrum", self._made_by, both[0], {})
        if directions is not None:
            self._put("sums", self._made_by | {"directions": array_digest(directions)}, both[1], {})
        return both[0], both[1]

    @functools.cached_property
    def _weights(self) -> Float[np.ndarray, " n"]:
        """The rows' weights in H."""
        return curvatures(self.question, self.curved, self._start[0])

    def _held_sweep(self, use: Use) -> tuple[Array, Facts]:
        """What H holds of the training rows, to ``use``: their probes, or their gradients times the roots of their weights."""
        if not self._probes:
            return self._sweep("train", use, roots(self.question, self.curved))
        swept = [self._sweep("train", use, question=one) for one in self._probes]
        return swept[0]

    def _between(self, some: Question, others: Question, damping: float) -> Float[np.ndarray, "a b"]:
        """g' (H + ridge)^-1 g of the targets of two questions."""
        parts = []
        for piece in self._pieces(some):
            out = np.zeros((piece.stop - piece.start, others.m), np.float32)
            curvature = self.curvature()
            turned = self._turned(some, piece, curvature)
            self._sweep("targets", turned.products(curvature.inverse(damping), out), question=others)
            parts.append(out)
        return np.concatenate(parts).astype(np.float64)

    def _kernel(self, ids: Int[np.ndarray, " s"], damping: float) -> Float[np.ndarray, "s s"]:
        """g' (H + ridge)^-1 g of all pairs of some training rows: targets like others, of the train output."""
        rows = dataclasses.replace(
            self.question, targets=self.question.train[ids], output=self.question.on_train
        )
        parts = [self._products(rows, piece, damping, "targets") for piece in self._pieces(rows)]
        found = np.concatenate(parts).astype(np.float64)
        return (found + found.T) / 2

    def _products(
        self, question: Question, rows: slice, damping: float, side: Side
    ) -> Float[np.ndarray, "b rows"]:
        """Of some targets with all rows of a side."""
        out = np.zeros((rows.stop - rows.start, question.n if side == "train" else question.m), np.float32)
        curvature = self.curvature()
        turned = self._turned(question, rows, curvature)
        self._sweep(side, turned.products(curvature.inverse(damping), out), question=question)
        return out

    def _turned(self, question: Question, rows: slice, curvature: Curvature) -> Rotated:
        """Some targets' gradients in the coordinates."""
        found = Rotated(curvature.blocks, rows)
        self._sweep("targets", found.add, question=question)
        return found

    def _pieces(self, question: Question) -> list[slice]:
        """Targets that fit in memory, with all their gradients or all their products."""
        p = sum(rows * columns for rows, columns in self._start[1]["shapes"].values())
        step = max(1, NUMBERS // max(p, question.n))
        return [slice(start, min(start + step, question.m)) for start in range(0, question.m, step)]

    def _sweep(
        self,
        side: Side,
        use: Use,
        scale: Scale | None = None,
        question: Question | None = None,
    ) -> tuple[Array, Facts]:
        swept = self.lab.gradients(question or self.question, self.subsets, self.k, side, use, scale)
        return swept.slope, swept.facts

    @functools.cached_property
    def _made_by(self) -> Facts:
        return {
            "model": model_key(self.question, self.subsets, self.k),
            "train": canonical(self.question.train),
            "output": canonical(self.question.on_train),
            "curved": self.curved,
            "numerics": NUMERICS,
        }

    @functools.cached_property
    def _targets(self) -> Facts:
        return {"targets": canonical(self.question.targets), "target_output": canonical(self.question.output)}

    def _get(self, kind: str, made_by: Facts) -> tuple[dict[str, Array], Facts] | None:
        return self.lab.get(f"influence-{kind}", made_by)

    def _put(self, kind: str, made_by: Facts, arrays: dict[str, Array], facts: Facts) -> None:
        self.lab.put(f"influence-{kind}", made_by, arrays, facts)


def _check_left(inside: Float[np.ndarray, "s s"], rows: int) -> None:
    """Refuse a group that takes all of the curvature in some direction (dl-738)."""
    least = float(np.linalg.eigvalsh(inside)[0])
    if least <= 0.0:
        raise BadInput(
            "dl-738",
            asked=f"the effect of {rows} rows as a group",
            found=f"a group that takes {1.0 - least:.2f} of the curvature in some direction, damping included",
            do='give Influence a larger damping, or use TRAK or kind="sum" for this group',
        )


def _grow(total: dict[str, Tensor], name: str, more: Tensor) -> None:
    total[name] = total[name] + more if name in total else more
