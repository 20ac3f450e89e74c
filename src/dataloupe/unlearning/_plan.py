"""What unlearning would cost, against retraining, and how hard the request looks: told before any work."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe._typing import Array, Facts, Ids
from dataloupe.core import Lab, MemoryLab, Question, Subsets, checked
from dataloupe.unlearning._audit import trainings_behind
from dataloupe.unlearning._context import FORWARD, Context, Unlearner
from dataloupe.unlearning._descent import (
    AscentDescent,
    GradientAscent,
    GradientDescent,
    L1Sparse,
    NegGradPlus,
)
from dataloupe.unlearning._layers import CFk, EUk
from dataloupe.unlearning._matching import DMM, PROBED, DMDirect, Mix, OracleMatching
from dataloupe.unlearning._newton import PROBES, PRODUCT, NewtonStep
from dataloupe.unlearning._plain import DoNothing, Retrain
from dataloupe.unlearning._predictors import Predictor
from dataloupe.unlearning._rows import everything, predictions_of, row_keys
from dataloupe.unlearning._scrub import SCRUB
from dataloupe.unlearning._unlearn import rows_digest

RETRAIN = "retrain"
STILL = (DoNothing, DMDirect)
"""Methods that leave the weights as they are."""
LARGEST = 5
"""So many rows of the largest predicted change are named."""
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class PlannedCost:
    """What a method would cost for so many requests, in retrainings; ``share`` None: it cannot be told beforehand.

    ``trainings`` stand behind it and are paid once, each counted as a whole one; ``most``: the share is the most it takes.

    >>> PlannedCost(share=0.5, trainings=10, requests=20).begins
    21
    """

    share: float | None
    trainings: int
    requests: int
    most: bool = False

    @property
    def total(self) -> float | None:
        """Trainings behind it and the share of every request."""
        return None if self.share is None else self.trainings + self.requests * self.share

    @property
    def break_even(self) -> float | None:
        """K* = trainings / (1 - share): the number of requests at which it costs as much as retraining; inf: never less."""
        if self.share is None:
            return None
        return math.inf if self.share >= 1 else self.trainings / (1.0 - self.share)

    @property
    def begins(self) -> int | None:
        """The first number of requests for which it costs less; None: never, or not known."""
        level = self.break_even
        return None if level is None or math.isinf(level) else math.floor(level + 1e-9) + 1


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """Predicted changes of own margins (of regression values) by a retraining, in size.

    ``forget`` are the mean and 95th percentile over rows to forget, ``largest`` the rows that change most; ``retained``
    and ``targets`` are 95th percentiles. Little change on the rows to forget: little to unlearn.
    """

    forget: tuple[float, float]
    largest: tuple[tuple[int, float], ...]
    retained: float
    targets: float

    def __str__(self) -> str:
        rows = ", ".join(f"{row} ({change:.2f})" for row, change in self.largest)
        return (
            f"predicted change of the own margin: {self.forget[0]:.2f} on rows to forget (p95 {self.forget[1]:.2f}; "
            f"most: {rows}), p95 {self.retained:.2f} on retained rows, {self.targets:.2f} on targets"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What every method would cost, whether retraining is cheaper, and how hard the request looks.

    ``duplicates`` are retained rows with the inputs of a row to forget: these stay, and what they teach stays with them.
    """

    costs: dict[str, PlannedCost]
    forget: Int[np.ndarray, " f"]
    digest: str
    rows: int
    requests: int
    idle: tuple[str, ...]
    duplicates: Int[np.ndarray, " d"]
    difficulty: Difficulty | None = None

    @property
    def verdict(self) -> str:
        """The cheapest method, by name; "retrain" where retraining is cheaper or costs the same.

        Methods of unknown cost, and those that leave the weights as they are (``idle``), are not among them. Whether one
        forgets is for the audit.
        """
        known = {
            name: cost.total
            for name, cost in self.costs.items()
            if cost.total is not None and name not in self.idle
        }
        best = min(known, key=lambda name: known[name], default=RETRAIN)
        return best if known.get(best, math.inf) < self.requests - 1e-9 else RETRAIN

    def __str__(self) -> str:
        share = len(self.forget) / self.rows
        many = f"{self.requests:,} request{'s' if self.requests > 1 else ''}"
        lines = [
            f"{len(self.forget)} of {self.rows} rows ({share:.1%}) to forget, request {self.digest}; {many}",
            *_aligned(self.table()),
            *self.told(),
        ]
        return "\n".join(lines)

    def told(self) -> list[str]:
        """What follows from the table, in sentences."""
        lines = [self._answer(f"{self.requests:,} request{'s' if self.requests > 1 else ''}")]
        if len(self.duplicates):
            lines.append(_stay(self.duplicates))
        if self.difficulty is not None:
            lines.append(str(self.difficulty))
        return lines

    def to_json(self) -> Facts:
        """All of it, as JSON holds it."""
        return {
            "forget": self.forget.tolist(),
            "digest": self.digest,
            "rows": self.rows,
            "requests": self.requests,
            "costs": {
                name: {
                    **dataclasses.asdict(cost),
                    "total": cost.total,
                    "break_even": None if cost.begins is None else cost.break_even,
                    "begins": cost.begins,
                }
                for name, cost in self.costs.items()
            },
            "verdict": self.verdict,
            "duplicates": self.duplicates.tolist(),
            "difficulty": None if self.difficulty is None else dataclasses.asdict(self.difficulty),
        }

    def table(self) -> list[list[str]]:
        """Head, methods and retraining, in words."""
        rows = [["method", "of a retraining", "trainings behind", "total", "cheaper from"]]
        for name, cost in self.costs.items():
            rows.append([name, *_cells(cost, idle=name in self.idle)])
        return [*rows, ["retraining", "100.0%", "0", f"{self.requests:,.1f}", ""]]

    def _answer(self, many: str) -> str:
        if self.verdict == RETRAIN:
            return f"cheapest for {many}: retrain"
        total = self.costs[self.verdict].total
        return (
            f"cheapest for {many}: {self.verdict}, {total:,.1f} retrainings against {self.requests:,}; "
            "whether it forgets is for an audit to say"
        )


@checked("dl-511")
def plan_unlearning(
    question: Question,
    forget: Ids,
    *,
    methods: Mapping[str, Unlearner],
    requests: int = 1,
    lab: Lab | None = None,
    by: Predictor | None = None,
) -> Plan:
    """Before any work: what each method would cost for ``requests`` requests like this one, and what retraining would.

        total = trainings + requests * share,    against requests * 1

    in retrainings. Shares are worked out from a method's settings where they tell (the fine-tuning methods of this room),
    and are unknown of others. With ``by`` and a lab also how hard the request looks: the changes that ``by`` predicts, of
    the margins of one model (the predictor's trainings are done or read for it; so much work it is).

    Raises ``BadInput`` dl-682 (no methods, or no request), dl-683 (a predictor without a lab), dl-108 to dl-111 and dl-661
    (rows), ``CapabilityError`` dl-662 (a learner without steps).

    >>> import torch
    >>> import dataloupe as dl
    >>> data = dl.Examples(torch.eye(4), labels=torch.tensor([0, 1, 0, 1]))
    >>> question = dl.Question(dl.SGD(lambda: torch.nn.Linear(4, 2), epochs=60), data, data, dl.outputs.margin)
    >>> from dataloupe.unlearning import OracleMatching
    >>> plan_unlearning(question, [1], methods={"oracle matching": OracleMatching()}).verdict
    'retrain'
    """
    if not methods or requests < 1:
        raise BadInput(
            "dl-682",
            asked=f"a plan of {len(methods)} methods for {requests} requests",
            found="no method, or no request",
            do='name at least one method and one request: plan_unlearning(question, ids, methods={"DMM": ...})',
        )
    if by is not None and lab is None:
        raise BadInput(
            "dl-683",
            asked=f"the changes that {type(by).__name__} predicts",
            found="no lab to do its trainings in",
            do="give lab=, or leave `by` out",
        )
    context = Context.of(question, lab or MemoryLab(), forget)
    costs, idle = {}, []
    for name, method in methods.items():
        passes, most = passes_of(method, context)
        own = getattr(method, "by", None)
        share = None if passes is None else passes / context.retraining
        costs[name] = PlannedCost(share, 0 if own is None else trainings_behind(own), requests, most)
        if isinstance(method, STILL):
            idle.append(name)
    return Plan(
        costs=costs,
        forget=context.forget,
        digest=rows_digest(context.forget),
        rows=question.n,
        requests=requests,
        idle=tuple(idle),
        duplicates=duplicates_of(context),
        difficulty=None if by is None else difficulty_of(context, by),
    )


def _cells(cost: PlannedCost, *, idle: bool = False) -> list[str]:
    """Share, trainings behind, total, and the first number of requests that is cheaper, in words."""
    share = "unknown" if cost.share is None else f"{'<= ' if cost.most else ''}{cost.share:.1%}"
    total = "unknown" if cost.total is None else f"{cost.total:,.1f}"
    begins = "never" if cost.begins is None else f"{cost.begins:,} request{'s' if cost.begins > 1 else ''}"
    if cost.share is None:
        begins = "unknown"
    return [share, f"{cost.trainings:,}", total, "weights keep them" if idle else begins]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]


# --- shares, from settings ---------------------------------------------------------------------------------


def passes_of(method: Unlearner, context: Context) -> tuple[float | None, bool]:
    """Rows that a method would go forward and back over (None: its settings do not tell), and whether that is the most."""
    if isinstance(method, DMM | OracleMatching):
        oracle = context.retraining if isinstance(method, OracleMatching) else 0.0
        return _matching(method.mix, context) + oracle, False
    known = ROWS_OF.get(type(method))
    return (None, False) if known is None else (known(method, context), type(method) is NewtonStep)


def _matching(mix: Mix, context: Context) -> float:
    """Epochs of the mix, forward passes over rows that it is expected to show and over those to forget, the rate's probe."""
    forget, retained = len(context.forget), len(context.retained)
    draw, repeat = mix.sizes(forget, retained)
    shown = forget + retained * (1.0 - (1.0 - draw / retained) ** mix.epochs)
    probe = min(PROBED, retained) if mix.lr is None and mix.optimizer == "sgd" else 0
    return mix.epochs * (draw + repeat * forget) + FORWARD * (shown + forget) + probe


def _descents(method: Any, context: Context) -> float:
    return float(method.epochs * len(context.retained))


def _last_layers(method: Any, context: Context) -> float:
    own = getattr(context.question.learner, "epochs", 10)
    return float((method.epochs if method.epochs is not None else own) * len(context.retained))


def _paired(method: Any, context: Context) -> float:
    """Every batch of retained rows comes with one of rows to forget."""
    size = method.batch_size or context.batch_size
    batches = math.ceil(len(context.retained) / size)
    return _descents(method, context) + method.epochs * batches * min(
        method.forget_batch or size, len(context.forget)
    )


def _scrub(method: Any, context: Context) -> float:
    """The teacher's forward pass, min and max steps; with rewind also a look at the rows to forget after every epoch."""
    forget, retained = len(context.forget), len(context.retained)
    found = FORWARD * (forget + retained) + _descents(method, context) + float(method.max_epochs * forget)
    return found + FORWARD * method.epochs * forget if method.rewind else found


def _newton(method: Any, context: Context) -> float:
    """All iterations, and the probes of the damping."""
    rows = min(method.rows or len(context.retained), len(context.retained))
    return PRODUCT * rows * (method.iterations + (PROBES if method.damping else 0)) + len(context.forget)


ROWS_OF: dict[type, Callable[[Any, Context], float]] = {
    DoNothing: lambda *_: 0.0,
    DMDirect: lambda *_: 0.0,
    Retrain: lambda _, context: float(context.retraining),
    GradientDescent: _descents,
    GradientAscent: lambda method, context: float(method.epochs * len(context.forget)),
    AscentDescent: lambda method, context: (
        _descents(method, context) + float(method.ascents * len(context.forget))
    ),
    NegGradPlus: _paired,
    SCRUB: _scrub,
    L1Sparse: _descents,
    CFk: _last_layers,
    EUk: _last_layers,
    NewtonStep: _newton,
}
"""Rows by the class of a method: what it books when it runs."""


# --- how hard it looks -------------------------------------------------------------------------------------


def duplicates_of(context: Context) -> Int[np.ndarray, " d"]:
    """Retained rows whose inputs are, byte for byte, those of a row to forget."""
    wanted = set(row_keys(context.data.take(context.forget).inputs))
    found: list[int] = []
    for start in range(0, len(context.retained), _BLOCK):
        ids = context.retained[start : start + _BLOCK]
        keys = row_keys(context.data.take(ids).inputs)
        found += [row for row, key in zip(ids.tolist(), keys, strict=True) if key in wanted]
    return np.array(found, dtype=np.int64)


def difficulty_of(context: Context, by: Predictor) -> Difficulty:
    """Predicted changes of one model's margins, on all rows."""
    question = context.question
    every = everything(question)
    seed = Stream.root(context.seed)("audit")("full").seed()
    model = context.lab.models(question, Subsets.full(question.n, 1, seed=seed))[0]
    before = predictions_of(model, every).astype(np.float64)
    after = before + by.changes(context)
    change = np.abs(own_margins(after, every) - own_margins(before, every))
    forget, n = change[context.forget], question.n
    largest = np.argsort(-forget, kind="stable")[:LARGEST]
    return Difficulty(
        (float(forget.mean()), float(np.quantile(forget, 0.95))),
        tuple((int(context.forget[i]), float(forget[i])) for i in largest),
        float(np.quantile(change[context.retained], 0.95)),
        float(np.quantile(change[n:], 0.95)),
    )


def own_margins(predicted: Float[np.ndarray, "rows c"], every: Question) -> Float[np.ndarray, " rows"]:
    """The logit of a row's own class less the log-sum-exp of the others; of regression the first value."""
    labels = every.targets.labels
    if labels is None or labels.is_floating_point() or predicted.shape[1] < 2:
        return predicted[:, 0]
    logits = torch.from_numpy(predicted)
    own = labels.long()[:, None]
    others = logits.scatter(1, own, -torch.inf).logsumexp(1)
    return (logits.gather(1, own)[:, 0] - others).numpy()


def _stay(duplicates: Array) -> str:
    rows = ", ".join(map(str, duplicates[:LARGEST].tolist()))
    more = ", ..." if len(duplicates) > LARGEST else ""
    one = len(duplicates) == 1
    return (
        f"{len(duplicates)} retained row{'' if one else 's'} ({rows}{more}) {'has' if one else 'have'} the inputs of a row "
        f"to forget: {'it stays' if one else 'these stay'}, and forgetting cannot remove what {'it teaches' if one else 'they teach'}"
    )
