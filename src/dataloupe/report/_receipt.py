"""The receipt of an unlearning on the page: request, cost, distance from retraining, gates, the worst points."""

import dataclasses
import math

from dataloupe.judge import MethodAudit, SplitAudit, WorstPoint
from dataloupe.report._cards import Picture, picture
from dataloupe.report._charts import Scale, Strip, axis, strip
from dataloupe.report._judged import Chart, Line, Verdict
from dataloupe.report._panel import Ends, Gallery, Panel, Row, Table
from dataloupe.report._words import HARD_SPACE, between, capital, count, fixed, joined, quoted, share
from dataloupe.unlearning import Receipt

SHOWN, WORST = 13, 8
"""Rows to forget that are shown, and worst points of the first method."""
NOTHING = "nothing"
SPLITS = {"forget": "the rows to forget", "retain": "the retained rows", "validation": "the targets"}


@dataclasses.dataclass(frozen=True)
class RootScale(Scale):
    """Numbers from 0 up, laid out by their square roots; ``high`` is the largest.

    >>> RootScale(0.0, 4.0).at(1.0), RootScale(0.0, 4.0).ticks()
    (0.5, [0.0, 0.2, 0.6, 1.0, 3.0, 4.0])
    """

    def at(self, value: float) -> float:
        """Where a value stands; what is below 0 stands at it."""
        return math.sqrt(max(value, 0.0) / self.high)

    def ticks(self, most: int = 5) -> list[float]:
        """Numbers of one digit, about evenly spaced in roots."""
        raw = [self.high * (i / most) ** 2 for i in range(1, most + 1)]
        found = {0.0, *(float(f"{value:.0e}") for value in raw)}
        return sorted(tick for tick in found if tick <= self.high * (1 + 1e-9))

    def label(self, tick: float) -> str:
        """A tick with the digits it needs."""
        return f"{tick:g}"


def receipt_sentence(found: Receipt) -> str:
    """Who passes the gates, in one clause; that there is nothing to unlearn, where that is so."""
    gone = f"{count(len(found.forget), 'training row')} of {found.rows:,} to forget"
    passed = [name for name in found.costs if not found.failed(name)]
    failed = [name for name in found.costs if found.failed(name)]
    told = []
    if passed:
        told.append(f"{joined(map(quoted, passed))} {'passes' if len(passed) == 1 else 'pass'} every gate")
    if failed:
        told.append(f"{joined(map(quoted, failed))} {'fails' if len(failed) == 1 else 'fail'}")
    judged = found.audit
    models = judged.methods[NOTHING].models
    idle = "; doing nothing is near the floor as well" if "forget" in judged.idle else ""
    return f"{gone}: against {count(judged.oracles, 'model')} that never saw them, {', '.join(told)} ({models} models each){idle}"


def receipt_counts(found: Receipt) -> list[tuple[str, str]]:
    """The few numbers under the title."""
    return [
        (f"{len(found.forget):,}", f"rows to forget, of {found.rows:,}"),
        (f"{found.audit.methods[NOTHING].models:,}", "models on all rows"),
        (f"{found.audit.oracles:,}", "models without them"),
    ]


def receipt_panel(found: Receipt) -> Panel:
    """The request, the verdict on the first method, and every number behind it."""
    first = next(iter(found.costs))
    judged = next(name for name in found.costs if name in found.audit.methods)
    tables = (_costs(found), _splits(found), _worst(found, judged))
    return Panel(
        "Is what the rows taught gone?",
        capital(receipt_sentence(found)),
        _verdict(found, first),
        charts=_charts(found),
        ends=(_request(found),),
        tables=tuple(table for table in tables if table.rows),
        notes=_notes(found),
    )


def _verdict(found: Receipt, first: str) -> Verdict:
    """Of the first method; the others are beside it for comparison."""
    failed, gates = found.failed(first), found.gates
    if failed:
        return Verdict("fails", f"{first}: {'; '.join(failed)}. This is evidence, not proof", "disagree")
    if "forget" in found.audit.idle:
        words = (
            "doing nothing is near the floor on the rows to forget as well, so there is little to tell it by"
        )
        return Verdict("nothing to tell", f"{first} passes, but {words}", "undecided")
    words = f"normalised KLoM of at most {gates.forget:g} on the rows to forget, at most {gates.elsewhere:g} floors elsewhere"
    return Verdict("passes", f"{first}: {words}. This is evidence, not proof", "agree")


def _request(found: Receipt) -> Ends:
    """What was asked of which data, and how the first rows look."""
    facts = (
        ("request", found.digest),
        (
            "rows",
            f"{len(found.forget):,} of {found.rows:,} ({share(round(len(found.forget) / found.rows, 4))})",
        ),
        ("training data", found.train),
        ("question", found.question),
        ("seed", str(found.seed)),
    )
    shown = found.forget[:SHOWN].tolist()
    more = len(found.forget) - len(shown)
    rest = (f"and {more:,} more",) if more else ()
    pictures = tuple(_example(found, row) for row in shown)
    return Ends("The request", facts, (Gallery("Rows to forget", "training example", pictures, rest),))


def _charts(found: Receipt) -> tuple[tuple[str, Chart], ...]:
    """One chart a split, all over one axis: doing nothing, then every method."""
    methods = found.audit.methods
    known = [
        end
        for method in methods.values()
        for at in method.splits.values()
        for end in (
            at.oracle_first.p95,
            *((at.interval[1],) if at.interval else ()),
            method.floor.oracle_first.p95,
        )
    ]
    scale = RootScale(0.0, 1.04 * max(*known, 1e-6))
    splits = list(methods[NOTHING].splits)
    return tuple(
        (f"On {SPLITS.get(split, split)}.", _chart(found, split, scale, split == splits[-1]))
        for split in splits
    )


def _chart(found: Receipt, split: str, scale: Scale, last: bool) -> Chart:
    lines = []
    undone = found.audit.methods[NOTHING].splits[split].oracle_first.p95
    for name, method in found.audit.methods.items():
        at, floor = method.splits[split], method.floor.oracle_first.p95
        tone = "quiet" if name == NOTHING else "warm" if _fails(found, name, split) else "accent"
        interval = None if at.interval is None else (max(at.interval[0], 0.0), max(at.interval[1], 0.0))
        mark = Strip(
            scale, max(at.oracle_first.p95, 0.0), interval, tone, line=undone, band=(0.0, max(floor, 0.0))
        )
        value = fixed(at.oracle_first.p95) + ("" if at.interval is None else f" {between(at.interval)}")
        remark = "" if at.normalised is None or name == NOTHING else f"normalised {fixed(at.normalised)}"
        lines.append(Line(name, strip(mark), value, remark, quiet=name == NOTHING))
    sentences: tuple[str, ...] = ()
    if last:
        sentences = (
            f"The 95th percentile of KLoM ({found.audit.estimator}) over rows, with 95{HARD_SPACE}% intervals; the axis is a square root. "
            "Shaded: up to the floor, what two groups of models of one kind give. Dashed: doing nothing. "
            "Normalised: 0 at the floor, 1 where nothing was done.",
        )
    return Chart(tuple(lines), axis(scale), sentences)


def _costs(found: Receipt) -> Table:
    rows = []
    for name, cost in found.costs.items():
        failed = found.failed(name)
        requests = (
            "never"
            if math.isinf(cost.requests)
            else f"{max(1, math.floor(cost.requests + 1e-9) + 1):,} requests"
        )
        cells = (
            name,
            share(round(cost.share, 3)),
            f"{cost.seconds:.2g}{HARD_SPACE}s",
            f"{cost.trainings:,}",
            requests.replace("1 requests", "1 request") if requests == "1 requests" else requests,
            "fails" if failed else "passes",
        )
        rows.append(Row(cells, tone=f"first {'fails' if failed else 'passes'}"))
    head = ("method", "of a retraining", "a model", "trainings behind it", "cheaper from", "gates")
    sentence = (
        "A share counts rows gone over, against a training without the rows. Trainings behind a method are paid once for any "
        "number of requests; seconds are those of this run, and hold what had to be made for the predictions."
    )
    return Table("What each method costs", head, tuple(rows), sentence=sentence)


def _splits(found: Receipt) -> Table:
    rows = []
    for name, method in found.audit.methods.items():
        for place, (split, at) in enumerate(method.splits.items()):
            tone = "quiet" if name == NOTHING else ""
            lost = found.audit.diverged.get(name, 0)
            label = f"{name} ({method.models}{f', {lost} diverged' if lost else ''})"
            cells = (label if place == 0 else "", split, *_levels(found, method, at, split))
            verdict = "" if name == NOTHING else "fails" if _fails(found, name, split) else "passes"
            rows.append(
                Row((*cells, verdict), tone=" ".join(filter(None, (tone, "first" * (place == 0), verdict))))
            )
    head = (
        "method (models)",
        "split",
        "rows",
        "p50",
        "p95",
        "p99",
        "floor",
        "normalised",
        "accuracy",
        "of retrained",
        "distance",
        "gate",
    )
    sentence = (
        "KLoM(oracle ‖ unlearned) over the rows of each split. Accuracy stands beside that of retrained models; distance is the total "
        "variation between mean predictions."
    )
    return Table("How far from retraining", head, tuple(rows), words=2, sentence=sentence)


def _levels(found: Receipt, method: MethodAudit, at: SplitAudit, split: str) -> tuple[str, ...]:
    first = at.oracle_first
    retrained = None if found.audit.accuracy is None else found.audit.accuracy[split]
    return (
        f"{at.points:,}",
        fixed(first.p50),
        fixed(first.p95),
        fixed(first.p99),
        fixed(method.floor.oracle_first.p95),
        _or_dash(at.normalised),
        _or_dash(at.accuracy, 3),
        _or_dash(retrained, 3),
        _or_dash(at.distance, 3),
    )


def _worst(found: Receipt, name: str) -> Table:
    """Where the first method is farthest from retraining, with the margins of the three ensembles."""
    rows = tuple(
        Row(
            (
                _place(found, point),
                point.split,
                fixed(point.klom),
                *(
                    f"{fixed(mean)} ± {fixed(sd)}"
                    for mean, sd in (point.unlearned, point.oracles, point.full)
                ),
            ),
            picture=_look(found, point),
        )
        for point in found.audit.methods[name].worst[:WORST]
    )
    head = ("row", "split", "KLoM", "unlearned", "retrained", "before")
    sentence = "Margins: mean and standard deviation over the models of each kind."
    return Table(f"Where {name} is farthest from retraining", head, rows, words=2, sentence=sentence)


def _place(found: Receipt, point: WorstPoint) -> str:
    """A training row or a target, by number and label."""
    look = _look(found, point)
    label = f" ({look.label})" if look is not None and look.label else ""
    train = point.row < found.rows
    return f"{'row' if train else 'target'} {point.row if train else point.row - found.rows}{label}"


def _look(found: Receipt, point: WorstPoint) -> Picture | None:
    if found.looks is None:
        return None
    train = point.row < found.rows
    row = point.row if train else point.row - found.rows
    return picture(found.looks[0 if train else 1], row, "training example" if train else "target", 60)


def _example(found: Receipt, row: int) -> Picture:
    return Picture(row, "") if found.looks is None else picture(found.looks[0], row, "training example", 120)


def _fails(found: Receipt, name: str, split: str) -> bool:
    return any(line.startswith(f"{split}:") for line in found.failed(name))


def _notes(found: Receipt) -> tuple[str, ...]:
    notes = [f"{quoted(name)}: {'; '.join(failed)}" for name in found.costs if (failed := found.failed(name))]
    if found.audit.idle:
        notes.append(
            f"nothing to unlearn on {joined(found.audit.idle)}: doing nothing is below twice the floor"
        )
    if found.audit.halves is not None:
        notes.append(f"oracles against themselves: {found.audit.halves}")
    return (*notes, "a small KLoM on few models or few rows proves little")


def _or_dash(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else fixed(value, digits)
