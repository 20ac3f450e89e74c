"""What a report is made of: the parts sorted by kind, checked against each other, judged where that was left to us."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Int

from dataloupe._errors import BadInput
from dataloupe.apps import (
    Counterfactual,
    Difference,
    Enrichment,
    GroupInfluences,
    Leaks,
    Likelihoods,
    Mislabels,
    Regenerated,
    Support,
    WhatIf,
)
from dataloupe.core import DATA, Attribution, Examples, OtherLearner, Outcomes, Recorded, check_same
from dataloupe.judge import LDS, Calibration, RemovalTest, calibration, lds
from dataloupe.report._png import check_image
from dataloupe.unlearning import Receipt

Use = (
    Support
    | Leaks
    | Mislabels
    | GroupInfluences
    | Difference
    | Enrichment
    | Counterfactual
    | Receipt
    | Likelihoods
    | Regenerated
)
KINDS = (Attribution, Outcomes, LDS, Calibration, RemovalTest, WhatIf, *get_args(Use))


@runtime_checkable
class _HoldsExamples(Protocol):
    """An attribution that knows its examples, so that they can be shown."""

    @property
    def train(self) -> Examples | None: ...
    @property
    def targets(self) -> Examples | None: ...
    @property
    def index(self) -> Int[np.ndarray, "m 2"] | None: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """An attribution and the examples it speaks of."""

    name: str
    attribution: Attribution
    train: Examples
    targets: Examples
    index: Int[np.ndarray, "m 2"] | None

    @property
    def n(self) -> int:
        """Training examples."""
        return self.attribution.n

    @property
    def m(self) -> int:
        """Target rows."""
        return self.attribution.m

    @property
    def is_control(self) -> bool:
        """Whether it is there to be beaten, as its method says."""
        return self.attribution.info.role == "control"


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Everything a report shows, by kind, in the order it was given."""

    every: tuple[Method, ...]
    outcomes: Outcomes | None
    ranks: tuple[LDS, ...]
    calibrations: tuple[Calibration, ...]
    removals: tuple[RemovalTest, ...]
    answers: tuple[WhatIf, ...]
    uses: tuple[Use, ...]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The attributions to be shown: all but the controls, or the first where all are controls."""
        return tuple(method for method in self.every if not method.is_control) or self.every[:1]

    @property
    def main(self) -> Method | None:
        """The attribution that a reader sees first."""
        return next(iter(self.methods), None)

    def rank_of(self, method: Method) -> LDS | None:
        """The LDS of a method, found by its name."""
        return next((rank for rank in self.ranks if rank.method == method.name), None)


def sort_parts(parts: Sequence[Any]) -> Parts:
    """The parts by kind, checked; nothing is judged yet.

    Raises ``BadInput`` dl-950 (no parts), dl-951 (a part of another kind), dl-952 (an attribution without its
    examples), dl-953 (sizes that do not fit), dl-512 and dl-513 (parts of other questions).
    """
    if not parts:
        raise BadInput(
            "dl-950",
            asked="a report",
            found="no parts",
            do="give attributions, outcomes, judgements or answers: report(path, trak, fresh)",
        )
    for part in parts:
        if not isinstance(part, KINDS):
            raise BadInput(
                "dl-951",
                asked="a report",
                found=f"a part of type {type(part).__name__}",
                do=f"give parts that are any of {', '.join(kind.__name__ for kind in KINDS)}",
            )
    every = tuple(_with_examples(part) for part in parts if isinstance(part, Attribution))
    outcomes = [part for part in parts if isinstance(part, Outcomes)]
    found = Parts(
        every,
        outcomes[0] if outcomes else None,
        tuple(part for part in parts if isinstance(part, LDS)),
        tuple(part for part in parts if isinstance(part, Calibration)),
        tuple(part for part in parts if isinstance(part, RemovalTest)),
        tuple(part for part in parts if isinstance(part, WhatIf)),
        tuple(part for part in parts if isinstance(part, Use)),
    )
    _check_together(found, len(outcomes))
    return found


def judged(parts: Parts) -> Parts:
    """The same parts with LDS and calibration of every method that has none yet, if outcomes were given."""
    outcomes = parts.outcomes
    if outcomes is None:
        return parts
    controls = {method.name: method.attribution for method in parts.every if method.is_control}
    ranks, lines = list(parts.ranks), list(parts.calibrations)
    for method in parts.methods:
        others = {name: control for name, control in controls.items() if name != method.name}
        if method.name not in {rank.method for rank in ranks}:
            ranks.append(lds(method.attribution, outcomes, controls=others))
        if method.name not in {line.method for line in lines}:
            lines.append(calibration(method.attribution, outcomes))
    return dataclasses.replace(parts, ranks=tuple(ranks), calibrations=tuple(lines))


def _with_examples(attribution: Attribution) -> Method:
    if isinstance(attribution, _HoldsExamples):
        train, targets = attribution.train, attribution.targets
        if train is not None and targets is not None:
            held = int(attribution.index[:, 0].max()) + 1 if attribution.index is not None else attribution.m
            if len(train) != attribution.n or len(targets) < held:
                _refuse(
                    f"{attribution.info.method} over {attribution.n} training examples and {held} targets, "
                    f"holding {len(train)} and {len(targets)}"
                )
            for examples in (train, targets):
                if examples.images is not None:
                    check_image(np.asarray(examples.images[0]), "example 0")
            return Method(attribution.info.method, attribution, train, targets, attribution.index)
    raise BadInput(
        "dl-952",
        asked=f"the examples behind {attribution.info.method}",
        found="an attribution that does not hold its training and target examples",
        do="give them: dataclasses.replace(attribution, train=question.train, targets=question.targets)",
    )


def _check_together(parts: Parts, outcomes: int) -> None:
    """Refuse parts that speak of different questions (dl-953)."""
    if outcomes > 1:
        _refuse(f"{outcomes} sets of outcomes")
    sizes = {(method.n, method.m) for method in parts.every}
    if parts.outcomes is not None:
        sizes.add((parts.outcomes.subsets.n, parts.outcomes.m))
    if len(sizes) > 1:
        _refuse("sizes (training examples, target rows) " + " and ".join(map(str, sorted(sizes))))
    _check_records(parts)
    names = [method.name for method in parts.every]
    if len(set(names)) < len(names):
        _refuse("two attributions named " + max(names, key=names.count))
    for method, rank in ((method, parts.rank_of(method)) for method in parts.every):
        if rank is not None and len(rank.per_target) != method.m:
            _refuse(f"an LDS over {len(rank.per_target)} target rows for {method.m} of {method.name}")
    if parts.main is not None:
        for answer in parts.answers:
            _check_answer(answer, parts.main.n, parts.main.m)
        for use in parts.uses:
            _check_use(use, parts.main)


COMPARED: dict[type, tuple[str, ...]] = {
    Mislabels: ("train", "output"),
    GroupInfluences: ("train", "output"),
    Receipt: ("train",),
    Regenerated: ("train", "output"),
    Counterfactual: ("targets",),
}
"""What a finding must share with the rest of the page where that is not all of data, targets and output."""


def _check_records(parts: Parts) -> None:
    """Refuse parts whose records tell other data, targets, outputs, or methods of two learners (dl-512, dl-513).

    Outcomes of another learner are judged, and noted; findings of one are their own affair.
    """
    findings = [*parts.ranks, *parts.calibrations, *parts.removals, *parts.answers, *parts.uses]
    records: list[Attribution | Recorded] = [method.attribution for method in parts.every]
    records += [] if parts.outcomes is None else [parts.outcomes]
    records += [about for about in map(_about, findings) if isinstance(about, Recorded)]
    for other in records[1:]:
        learner: OtherLearner = "refuse" if isinstance(other, Attribution) else "ignore"
        both = [set(COMPARED.get(type(one), DATA)) for one in (records[0], other)]
        compared = [part for part in DATA if part in both[0] & both[1]]
        check_same("one report", records[0], other, parts=compared, learner=learner)


def _about(finding: Any) -> Any:
    """What carries the record of a finding: an enrichment is of a difference."""
    return finding.difference if isinstance(finding, Enrichment) else finding


def _check_answer(answer: WhatIf, n: int, m: int) -> None:
    last = max(map(int, answer.removed))
    if not 0 <= answer.target < m or last >= n:
        _refuse(
            f"a what-if of target {answer.target}, removing up to row {last}, beside {n} rows and {m} targets"
        )


def _check_use(use: Use, main: Method) -> None:
    n, m = main.n, main.m
    about = use.difference if isinstance(use, Enrichment) else use
    match about:
        case Support():
            fits = about.n == n and all(0 <= case.target < m for case in about.cases)
        case Leaks():
            fits = len(about.best) == m and int(about.best_rows.max()) < n
        case Mislabels():
            fits = len(about.order) == n
        case GroupInfluences():
            fits = len(about.member) == n
        case Difference():
            fits = about.sides[0].vectors.shape[1] == n and len(about.cosine) == m
        case Counterfactual():
            fits = int(about.examples.max()) < len(main.targets)
        case Receipt():
            fits = about.rows == n
        case Likelihoods():
            fits = True  # samples of a model, which need not be targets
        case Regenerated():
            fits = about.removed < n
    if not fits:
        _refuse(f"{type(use).__name__} over other data than the {n} rows and {m} targets beside it")


def _refuse(found: str) -> NoReturn:
    raise BadInput(
        "dl-953",
        asked="one report on one question",
        found=found,
        do="make one report per question, with one set of outcomes, and one name per method "
        "(dataclasses.replace(attribution.info, method=...))",
    )
