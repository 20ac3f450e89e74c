"""The lasso on a device: accelerated proximal gradient steps for many targets at once on the dense Gram, on torch."""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.solve._lasso import NARROW, ROUND_UP, Path, Walked
from dataloupe.solve._stats import Centred

CHECK = 10
"""Steps between two looks at the gaps, after which targets that are done leave the batch."""
SINGLE, DOUBLE = 1_000, 50_000
"""Steps at one penalty in fp32, and then in fp64, after which it ends with the gap that it has."""
MARGIN = 1.05
"""Over the largest eigenvalue as Lanczos finds it from below; 60 steps find it to 2% (Kuczynski, Wozniakowski 1992)."""


@dataclasses.dataclass(frozen=True)
class Fista:
    """An engine of :func:`lasso` for GPUs: FISTA with adaptive restart, ``targets`` at a time.

        w+ = soft(z + (X'(y - X z) - l2 z) / (L + l2), l1 / (L + l2)),  z+ = w+ + momentum (w+ - w)

    One step of t targets is one product [t, n] x [n, n]. A target leaves the batch when its duality gap, computed
    in fp64 as coordinate descent computes it, is small enough; steps are in fp32 where gaps of 1e-5 or more are
    asked for, else in fp64. The device holds the Gram in fp64 (and fp32) and about a dozen matrices [t, n].

    Raises ``BadInput`` dl-776 (a device that is not there, no targets).
    Sources: Beck and Teboulle 2009; O'Donoghue and Candes 2015 (restart by the gradient).

    >>> import numpy as np
    >>> from dataloupe.solve import Centred, lasso
    >>> problem = Centred.of(np.eye(4), np.array([[3.0], [0.0], [0.0], [0.0]]))
    >>> lasso(problem, penalty=3 / 16, engine=Fista(), path=Path(gap=1e-9)).weights.round(4).tolist()
    [[2.0, 0.0, 0.0, 0.0]]
    """

    device: str = "cpu"
    targets: int = 4096

    def __post_init__(self) -> None:
        """Check the settings."""
        try:
            torch.zeros(1, dtype=torch.float64, device=self.device)
            found = f"{self.targets} targets at a time"
        except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
            found = str(error).splitlines()[0]
        else:
            if self.targets >= 1:
                return
        raise BadInput(
            "dl-776",
            asked=f"the lasso on the device {self.device!r}",
            found=found,
            do="name a device with fp64 that torch can reach here ('cpu', 'cuda', 'cuda:1'), and at least 1 target",
        )

    def walk(
        self,
        fit: Centred,
        penalties: Float[np.ndarray, "m steps"],
        path: Path,
        out: Int[np.ndarray, " m"],
        *,
        held: Centred | None = None,
        choose: bool = False,
        start: Float[np.ndarray, "m n"] | None = None,
    ) -> Walked:
        """Every target down its penalties; see :class:`Walk`."""
        m, steps = penalties.shape
        found = Walked.begun(m, len(fit.mean), steps, start)
        gram = torch.from_numpy(fit.dense()).to(self.device)
        other = None if held is None else torch.from_numpy(held.dense()).to(self.device)
        bound = curvature(gram)
        grams = (gram.float(), gram) if path.gap >= NARROW else (gram,)
        for first in range(0, m, self.targets):
            rows = slice(first, min(first + self.targets, m))
            batch = _Batch.of(fit, grams, bound, rows, out[rows])
            away = None if held is None or other is None else _Away.of(fit, held, other, rows)
            _descend(batch, away, penalties[rows], path, choose, Walked(*(part[rows] for part in found)))
        return found


def curvature(gram: Float[Tensor, "n n"]) -> float:
    """A bound on the largest eigenvalue: ``MARGIN`` times that of 60 Lanczos steps, from a fixed start."""
    n = len(gram)
    row = torch.randn(n, dtype=torch.float64, generator=Stream.root(0)("lanczos").torch()).to(gram.device)
    basis = torch.zeros(0, n, dtype=torch.float64, device=gram.device)
    projected: list[Tensor] = []
    for _ in range(min(n, 60)):
        row = row - basis.T @ (basis @ row)
        row = row - basis.T @ (basis @ row)
        size = float(row.norm())
        if size <= 1e-12 * (projected[-1].norm().item() if projected else 1.0):
            break
        basis = torch.cat([basis, (row / size)[None]])
        row = gram @ basis[-1]
        projected.append(row)
    small = basis @ torch.stack(projected, dim=1)
    return MARGIN * float(torch.linalg.eigvalsh((small + small.T) / 2)[-1])


class _Batch(NamedTuple):
    """Some targets on the device: the Gram in every precision of the steps, c = X'y, y'y, the excluded columns."""

    grams: tuple[Tensor, ...]
    bound: float
    rows: int
    right: Float[Tensor, "t n"]
    square: Float[Tensor, " t"]
    out: Float[Tensor, "t n"] | None

    @classmethod
    def of(
        cls, fit: Centred, grams: tuple[Tensor, ...], bound: float, rows: slice, out: Int[np.ndarray, " t"]
    ) -> "_Batch":
        device = grams[0].device
        right = torch.from_numpy(np.ascontiguousarray(fit.right[:, rows].T)).to(device)
        stays = None
        if (out >= 0).any():
            stays = torch.ones_like(right)
            stays[torch.from_numpy(np.flatnonzero(out >= 0)), torch.from_numpy(out[out >= 0])] = 0.0
        return cls(grams, bound, fit.rows, right, torch.from_numpy(fit.square[rows]).to(device), stays)

    def at(self, live: Int[Tensor, " l"]) -> "_Batch":
        """Only those targets."""
        out = None if self.out is None else self.out[live]
        return self._replace(right=self.right[live], square=self.square[live], out=out)

    def certify(
        self, w: Float[Tensor, "t n"], bars: tuple[Tensor, Tensor], gram: Float[Tensor, "n n"] | None = None
    ) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
        """The relative duality gap and |y - X w|^2, the product in the precision of ``gram``: fp64 if none is given."""
        gram = self.grams[-1] if gram is None else gram
        (l1, l2), wide = bars, w.double()
        gradient = self.right - (w.to(gram.dtype) @ gram).double()
        slack = (gradient - l2[:, None] * wide).abs()
        steepest = (slack if self.out is None else slack * self.out).amax(dim=1)
        along, norm, ridge = (wide * self.right).sum(1), wide.abs().sum(1), (wide * wide).sum(1)
        residual = self.square - along - (wide * gradient).sum(1)
        rr = residual.clamp(min=0.0) + l2 * ridge
        scale = (l1 / steepest.clamp(min=1e-300)).clamp(max=1.0)
        gap = rr / 2 + l1 * norm - scale * (self.square - along) + scale * scale * rr / 2
        return gap / (self.square / 2), residual


class _Away(NamedTuple):
    """Held-out rows of some targets on the device, and how far their means are from those of the fit."""

    gram: Float[Tensor, "n n"]
    rows: int
    right: Float[Tensor, "t n"]
    square: Float[Tensor, " t"]
    shift: Float[Tensor, " n"]
    level: Float[Tensor, " t"]

    @classmethod
    def of(cls, fit: Centred, held: Centred, gram: Tensor, rows: slice) -> "_Away":
        def there(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(gram.device)

        right, square = there(held.right[:, rows].T), there(held.square[rows])
        return cls(
            gram, held.rows, right, square, there(held.mean - fit.mean), there((held.level - fit.level)[rows])
        )

    def error(self, w: Float[Tensor, "l n"], live: Int[Tensor, " l"]) -> Float[Tensor, " l"]:
        """The sum of squared errors of the live targets."""
        inside = self.square[live] + (w * (w @ self.gram - 2.0 * self.right[live])).sum(1)
        return inside + self.rows * (self.level[live] - w @ self.shift) ** 2


def _descend(
    batch: _Batch,
    away: _Away | None,
    penalties: Float[np.ndarray, "t steps"],
    path: Path,
    choose: bool,
    found: Walked,
) -> None:
    """Walk a batch down its penalties, warm from ``found.weights``, which end as the best steps'."""
    device = batch.right.device
    w = torch.from_numpy(found.weights).to(device)
    kept, smallest = w.clone(), np.full(len(w), np.inf)
    live = np.arange(len(w))
    for step in range(penalties.shape[1]):
        there = torch.from_numpy(live).to(device)
        scaled = torch.from_numpy(penalties[live, step] * (batch.rows * ROUND_UP)).to(device)
        bars = (path.share * scaled, (1.0 - path.share) * scaled)
        now, gap, residual = solved(batch.at(there), w[there], bars, path.gap)
        w[there] = now
        nonzero = (now != 0).sum(1).double()
        if away is not None:
            error = away.error(now, there)
        elif choose:
            free = 1.0 - (1.0 + nonzero) / batch.rows
            error = torch.where(free > 0.0, residual / (free * free), torch.inf)
        else:
            error = torch.full_like(gap, -1.0 - step)
        for table, column in (
            (found.error, error),
            (found.gap, gap),
            (found.residual, residual),
            (found.nonzero, nonzero),
        ):
            table[live, step] = column.cpu().numpy()
        better = found.error[live, step] < smallest[live]
        winners = live[better]
        smallest[winners], found.best[winners] = found.error[winners, step], step
        kept[torch.from_numpy(winners).to(device)] = now[torch.from_numpy(better).to(device)]
        live = live[better | (step - found.best[live] < path.patience)]
        if len(live) == 0:
            break
    found.weights[:] = kept.cpu().numpy()


def solved(
    batch: _Batch, w: Float[Tensor, "t n"], bars: tuple[Tensor, Tensor], goal: float
) -> tuple[Float[Tensor, "t n"], Float[Tensor, " t"], Float[Tensor, " t"]]:
    """The weights at one penalty a target, warm from w, their gaps and |y - X w|^2."""
    w = w.clone()
    gap, residual = batch.certify(w, bars)
    for gram in batch.grams:
        live = torch.nonzero(gap > goal)[:, 0]
        if len(live) == 0:
            break
        _advance(batch.at(live), gram, w, live, (bars[0][live], bars[1][live]), goal)
        gap, residual = batch.certify(w, bars)
    return w, gap, residual


def _advance(
    batch: _Batch,
    gram: Float[Tensor, "n n"],
    w: Float[Tensor, "t n"],
    live: Int[Tensor, " l"],
    bars: tuple[Tensor, Tensor],
    goal: float,
) -> None:
    """Steps in the precision of ``gram`` from and into the live rows of ``w``, until every gap is at most ``goal``."""
    single = gram is not batch.grams[-1]
    right, step, bar, l2 = _scaled(batch, bars, gram.dtype)
    old = w[live].to(gram.dtype)
    ahead, t = old, torch.ones_like(step)
    for number in range(1, 1 + (SINGLE if single else DOUBLE)):
        moved = ahead - step * (ahead @ gram - right + l2 * ahead)
        new = moved - torch.minimum(torch.maximum(moved, -bar), bar)
        if batch.out is not None:
            new = new * batch.out.to(new.dtype)
        back = ((ahead - new) * (new - old)).sum(1, keepdim=True) > 0.0
        later = torch.where(back, 1.0, (1.0 + (1.0 + 4.0 * t * t).sqrt()) / 2.0)
        ahead = new + torch.where(back, 0.0, (t - 1.0) / later) * (new - old)
        old, t = new, later
        if number % CHECK:
            continue
        done = batch.certify(old, bars, gram)[0] <= goal
        if single and done.any():
            some = torch.nonzero(done)[:, 0]
            exact = batch.at(some).certify(old[some], (bars[0][some], bars[1][some]))[0]
            done[some] = exact <= goal
        if done.any():
            w[live[done]] = old[done].double()
            stay = torch.nonzero(~done)[:, 0]
            if len(stay) == 0:
                return
            batch, live, bars = batch.at(stay), live[stay], (bars[0][stay], bars[1][stay])
            right, step, bar, l2 = _scaled(batch, bars, gram.dtype)
            old, ahead, t = old[stay], ahead[stay], t[stay]
    w[live] = old.double()


def _scaled(batch: _Batch, bars: tuple[Tensor, Tensor], kind: torch.dtype) -> tuple[Tensor, ...]:
    """c, the length of a step, the bar of its threshold and l2, in the precision of the steps."""
    step = 1.0 / (batch.bound + bars[1])
    return batch.right.to(kind), *(part[:, None].to(kind) for part in (step, bars[0] * step, bars[1]))
