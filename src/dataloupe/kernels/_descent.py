"""Coordinate descent for the lasso and the elastic net on a Gram matrix, one target after the other along its path.

In units of k rows, with X and y centred, a target minimises

    |y - X w|^2 / 2 + l1 |w|_1 + l2 |w|^2 / 2

and only c = X'y, y'y and X'X are needed. Off its diagonal X'X is kept as ``deviations + base - tilt tilt'``:
for 0/1 columns the deviations of the co-occurrence counts from their common level are whole numbers that fit two
bytes, and nothing is rounded. Working sets by the strong rule (Tibshirani et al. 2012) with a check of every
condition after, warm starts down the path, and the duality gap over all columns as the end of every step.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np

from dataloupe._typing import Array

W, C, T, Q, SEEN = range(5)
"""Rows of the members' table: weight, c, tilt, diagonal, and the weight that the full gradient knows."""
SWEEPS = 2000
"""Passes over the members per visit, after which a step ends with the gap that it has."""
PAD = 32
"""Extra columns of the members' square: rows a power of two apart would share their place in the cache."""
WIDE = 4
"""Coordinates whose moves go through the members together."""


class Gram(NamedTuple):
    """X'X of k centred rows: ``deviations + base - tilt tilt'`` off the diagonal (theirs is 0), and the diagonal."""

    deviations: Array
    base: float
    tilt: Array
    diagonal: Array


class Side(NamedTuple):
    """One target against a Gram: c = X'y and y'y."""

    gram: Gram
    right: Array
    square: float


class Held(NamedTuple):
    """Held-out rows, centred at themselves, and how far their means are from those of the fit."""

    side: Side
    rows: float
    shift: Array
    level: float


class Trace(NamedTuple):
    """What a path leaves: per step the held-out error, the gap, the residual square and the non-zeros."""

    error: Array
    gap: Array
    residual: Array
    nonzero: Array


def room(side: Side, held: Held) -> tuple[Array, Array, Array, Array]:
    """Room for 64 members: their table, their columns, and their deviations from each other on both sides."""
    square, square_held = side.gram.deviations.dtype, held.side.gram.deviations.dtype
    return (
        np.empty((5, 64)),
        np.empty(64, np.int64),
        np.empty((64, 64), square),
        np.empty((64, 64), square_held),
    )


@numba.njit(cache=True, nogil=True)
@no_type_check
def descend(side, held, penalties, share, rules, skip, weights, trace, crew):  # budget: a path has such ends
    """Walk down ``penalties`` (l1 = share p, l2 = (1 - share) p), warm from ``weights``, which end as the best step's.

    ``rules`` = (relative gap, patience, rows, narrow); ``skip`` is a column that must stay out (-1: none). ``narrow``
    sweeps are in fp32 until that no longer helps; the gradient that certifies is always fp64. Returns the number
    of the best step: of the smallest error on the held-out rows; without them (``held.rows`` = 0) of the
    smallest |residual|^2 / (1 - (1 + non-zeros) / rows)^2, or with rows = 0 the last; and ``crew``, the room for
    members (see :func:`room`), larger where it had to be, for the next target: fresh memory costs more than work.
    """
    n = len(side.right)
    place, size, full = np.full(n, -1), 0, np.zeros(n)
    best, smallest, kept = 0, np.inf, weights.copy()
    before, gradient, sums, wide = penalties[0], side.right.copy(), (0.0, 0.0), not rules[3]
    crew, size = _join(side, held, crew, place, size, np.nonzero(weights)[0])
    for p in range(size):
        crew[0][W, p] = weights[crew[1][p]]
    if size:
        gradient, sums = _refresh(side, crew, size, full)
    for step in range(len(penalties)):
        bars = (share * penalties[step], (1.0 - share) * penalties[step])
        bar = share * max(2.0 * penalties[step] - before, 0.5 * penalties[step])
        goal = rules[0] * side.square / 2.0
        while True:
            crew, size = _join(side, held, crew, place, size, _outside(side, place, gradient, bar, skip))
            known = full[crew[1][:size]]
            if wide:
                sums = _settle(side, crew, known, sums, bars, goal / 2.0)
            else:
                sums = _settle(side, crew, known.astype(np.float32), sums, bars, goal / 2.0)
            gradient, sums = _refresh(side, crew, size, full)
            gap, residual = _certify(side, crew, place, size, gradient, bars, skip)
            bar = bars[0] * (1.0 + 1e-9)
            if len(_outside(side, place, gradient, bar, skip)) == 0:
                if gap <= rules[0] * side.square / 2.0 or goal < rules[0] * side.square * 1e-9:
                    break
                wide = wide or goal < rules[0] * side.square / 2.0
                goal /= 4.0
        table, idx = crew[0], crew[1]
        trace.gap[step], trace.residual[step] = gap / max(side.square / 2.0, 1e-300), residual
        trace.nonzero[step] = np.count_nonzero(table[W, :size])
        if held.rows > 0:
            error = _held_out(held, crew, size)
        elif rules[2] > 0:
            free = 1.0 - (1.0 + trace.nonzero[step]) / rules[2]
            error = residual / (free * free) if free > 0.0 else np.inf
        else:
            error = -1.0 - step
        trace.error[step] = error
        if error < smallest:
            best, smallest = step, error
            kept[:] = 0.0
            for p in range(size):
                kept[idx[p]] = table[W, p]
        elif step - best >= rules[1]:
            break
        before = penalties[step]
    weights[:] = kept
    return best, crew


@numba.njit(cache=True, nogil=True)
@no_type_check
def _outside(side, place, gradient, bar, skip):
    """The columns outside the members whose gradient is at least ``bar``."""
    found = np.empty(len(gradient), dtype=np.int64)
    count = 0
    for i in range(len(gradient)):
        if place[i] < 0 and abs(gradient[i]) >= bar and i != skip and side.gram.diagonal[i] > 0.0:
            found[count] = i
            count += 1
    return found[:count]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _join(side, held, crew, place, size, new):
    """Columns become members: their numbers enter the table, their deviations from all members the two squares."""
    table, idx, sub, sub_held = crew
    if len(new) == 0:
        return crew, size
    wanted = size + len(new)
    if wanted > len(idx):
        space = 2 * len(idx)
        while space < wanted:
            space *= 2
        wider, longer = np.empty((5, space)), np.empty(space, dtype=np.int64)
        wider[:, :size], longer[:size] = table[:, :size], idx[:size]
        table, idx = wider, longer
        sub = _larger(sub, size, space)
        sub_held = _larger(sub_held, size, space)
    for q in range(len(new)):
        i, p = new[q], size + q
        idx[p], place[i] = i, p
        table[W, p] = table[SEEN, p] = 0.0
        table[C, p], table[T, p], table[Q, p] = side.right[i], side.gram.tilt[i], side.gram.diagonal[i]
    _meet_all(side.gram.deviations, idx, size, wanted, sub)
    _mirror(sub, size, wanted)
    if held.rows > 0:
        _meet_all(held.side.gram.deviations, idx, size, wanted, sub_held)
    return (table, idx, sub, sub_held), wanted


@numba.njit(cache=True, nogil=True)
@no_type_check
def _larger(square, size, space):
    larger = np.empty((space, space + PAD), dtype=square.dtype)
    larger[:size, :size] = square[:size, :size]
    return larger


@numba.njit(cache=True, nogil=True)
@no_type_check
def _meet_all(deviations, idx, size, wanted, square):
    """Rows of the members from ``size`` to ``wanted``, up to their diagonal."""
    near = np.empty(deviations.shape[1], dtype=deviations.dtype)
    for p in range(size, wanted):
        near[:] = deviations[idx[p]]  # one stream through memory, then jumps inside the first cache
        to = square[p]
        for q in range(p + 1):
            to[q] = near[idx[q]]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _mirror(square, size, wanted):
    """What lies above the diagonal in the columns from ``size`` to ``wanted``, in small tiles."""
    for top in range(0, wanted, 32):
        for left in range(max(top, size - size % 32), wanted, 32):
            for p in range(top, min(top + 32, wanted)):
                for q in range(max(left, p + 1, size), min(left + 32, wanted)):
                    square[p, q] = square[q, p]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _settle(side, crew, h, sums, bars, goal):
    """Sweep over the members until the gap among them alone is at most ``goal``."""
    size = len(h)
    w, c, t, q = crew[0][W, :size], crew[0][C, :size], crew[0][T, :size], crew[0][Q, :size]
    sub, base, (total, lean), (l1, l2) = crew[2], side.gram.base, sums, bars
    moves = np.zeros(WIDE, dtype=h.dtype)
    for _ in range(SWEEPS):
        for start in range(0, size, WIDE):
            stop, moved = min(start + WIDE, size), 0
            for p in range(start, stop):
                old, ahead = w[p], np.float64(h[p])
                for b in range(start, p):
                    ahead += moves[b - start] * sub[b, p]
                z = c[p] - ahead - base * (total - old) + t[p] * (lean - t[p] * old)
                new = 0.0
                if z > l1:
                    new = (z - l1) / (q[p] + l2)
                elif z < -l1:
                    new = (z + l1) / (q[p] + l2)
                moves[p - start] = d = new - old
                if d != 0.0:
                    w[p] = new
                    total += d
                    lean += d * t[p]
                    moved += 1
            _move(h, sub, moves, start, stop, moved)
        steepest, inner, norm, ridge = 0.0, 0.0, 0.0, 0.0
        for p in range(size):
            g = c[p] - h[p] - base * (total - w[p]) + t[p] * (lean - t[p] * w[p]) - q[p] * w[p]
            steepest = max(steepest, abs(g - l2 * w[p]))
            inner += w[p] * (c[p] + g)
            norm += abs(w[p])
            ridge += w[p] * w[p]
        if _gap(side.square, inner, _dot(w, c), norm, ridge, steepest, bars) <= goal:
            break
    return total, lean


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
@no_type_check
def _move(h, sub, moves, start, stop, moved):
    """h += moves @ sub[start:stop], four rows in one pass where most of them moved."""
    size = len(h)
    if moved > WIDE // 2 and stop - start == WIDE:
        m0, m1, m2, m3 = moves[0], moves[1], moves[2], moves[3]
        a, b, c, d = sub[start], sub[start + 1], sub[start + 2], sub[start + 3]
        for r in range(size):
            h[r] += m0 * a[r] + m1 * b[r] + m2 * c[r] + m3 * d[r]
    elif moved:
        for p in range(start, stop):
            m0, a = moves[p - start], sub[p]
            if m0 != 0.0:
                for r in range(size):
                    h[r] += m0 * a[r]


@numba.njit(cache=True, nogil=True)
@no_type_check
def _dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@numba.njit(cache=True, nogil=True)
@no_type_check
def _gap(square, inner, along, norm, ridge, steepest, bars):
    """Primal minus dual, the residual scaled until feasible; the l2 part counts as rows of its own.

    residual'residual = y'y - w'(c + g) =: rr, y'residual = y'y - w'c.
    """
    l1, l2 = bars
    rr = max(square - inner, 0.0) + l2 * ridge
    scale = min(1.0, l1 / steepest) if steepest > 0.0 else 1.0
    return rr / 2.0 + l1 * norm - scale * (square - along) + scale * scale * rr / 2.0


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
@no_type_check
def _refresh(side, crew, size, full):
    """Bring D w up to date over all columns; returns the gradient X'(y - X w) and the sums of the weights."""
    dev, n, table, idx = side.gram.deviations, len(full), crew[0], crew[1]
    total, lean = 0.0, 0.0
    moved = np.empty(size, dtype=np.int64)
    count = 0
    for p in range(size):
        total += table[W, p]
        lean += table[W, p] * table[T, p]
        if table[W, p] != table[SEEN, p]:
            moved[count] = p
            count += 1
    for q in range(0, count - 7, 8):
        p = moved[q : q + 8]
        d = table[W][p] - table[SEEN][p]
        r0, r1, r2, r3 = dev[idx[p[0]]], dev[idx[p[1]]], dev[idx[p[2]]], dev[idx[p[3]]]
        r4, r5, r6, r7 = dev[idx[p[4]]], dev[idx[p[5]]], dev[idx[p[6]]], dev[idx[p[7]]]
        d0, d1, d2, d3, d4, d5, d6, d7 = d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]
        for i in range(n):  # eight rows in one pass over the gradient
            low = d0 * r0[i] + d1 * r1[i] + d2 * r2[i] + d3 * r3[i]
            full[i] += low + d4 * r4[i] + d5 * r5[i] + d6 * r6[i] + d7 * r7[i]
    for q in range(count - count % 8, count):
        p0 = moved[q]
        d0, r0 = table[W, p0] - table[SEEN, p0], dev[idx[p0]]
        for i in range(n):
            full[i] += d0 * r0[i]
    gradient = np.empty(n)
    base, tilt = side.gram.base, side.gram.tilt
    for i in range(n):
        gradient[i] = side.right[i] - full[i] - base * total + tilt[i] * lean
    for p in range(size):
        i, w = idx[p], table[W, p]
        table[SEEN, p] = w
        gradient[i] += base * w - tilt[i] * tilt[i] * w - table[Q, p] * w
    return gradient, (total, lean)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _certify(side, crew, place, size, gradient, bars, skip):
    """The gap over all columns, and the residual square."""
    table, idx, l2 = crew[0], crew[1], bars[1]
    inner, along, norm, ridge, steepest = 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(size):
        w, i = table[W, p], idx[p]
        inner += w * (table[C, p] + gradient[i])
        along += w * table[C, p]
        norm += abs(w)
        ridge += w * w
        steepest = max(steepest, abs(gradient[i] - l2 * w))
    for i in range(len(gradient)):
        if i != skip and place[i] < 0 and side.gram.diagonal[i] > 0.0:
            steepest = max(steepest, abs(gradient[i]))
    return _gap(side.square, inner, along, norm, ridge, steepest, bars), side.square - inner


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
@no_type_check
def _held_out(held, crew, size):
    """The sum of squared errors on the held-out rows, from their own sufficient statistics."""
    gram, (table, idx, _, square) = held.side.gram, crew
    total, lean, along, shift, found = 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(size):
        i, w = idx[p], table[W, p]
        if w == 0.0:
            continue
        cross, row = 0.0, square[p]
        for q in range(p):
            cross += table[W, q] * row[q]
        found += 2.0 * w * cross + w * w * (gram.diagonal[i] - gram.base + gram.tilt[i] ** 2)
        total += w
        lean += w * gram.tilt[i]
        along += w * held.side.right[i]
        shift += w * held.shift[i]
    found += gram.base * total * total - lean * lean
    return held.side.square - 2.0 * along + found + held.rows * (held.level - shift) ** 2
