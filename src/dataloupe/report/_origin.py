"""Where the numbers come from: method, settings, cost, identity; and the retrainings they were held against."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dataloupe.core import Attribution, Outcomes
from dataloupe.report._parts import Parts
from dataloupe.report._words import count, facts, share
from dataloupe.unlearning import Receipt

UNITS = {
    "output": "the output's own: a score is a change of the output",
    "relative": "relative: only order and proportion within one target mean something",
}
REMOVAL = {
    "repack": "repack: trained on the kept examples only",
    "mask": "mask: same batches, removed rows replaced by a constant row of weight 0",
}


@dataclasses.dataclass(frozen=True)
class Origin:
    """One card of provenance: a title, facts in groups, a note."""

    title: str
    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    note: str = ""


def origins(parts: Parts) -> list[Origin]:
    """A card for every attribution, every method that was audited, and the outcomes."""
    cards = [_of_attribution(method.attribution) for method in parts.every]
    for use in parts.uses:
        if isinstance(use, Receipt):
            cards += [_of_unlearning(use, name) for name in use.costs]
    return cards if parts.outcomes is None else [*cards, _of_outcomes(parts.outcomes)]


def _of_attribution(attribution: Attribution) -> Origin:
    info = attribution.info
    general = {
        "training examples": f"{attribution.n:,}",
        "target rows": f"{attribution.m:,}",
        "units": UNITS[attribution.units],
        "data share seen": "not known" if info.fraction is None else share(info.fraction),
        "removal": REMOVAL[info.removal],
        "question": info.question or "not recorded",
    }
    # Seconds differ from run to run, and a page is the same for the same answers; `show` tells them.
    cost = {name: value for name, value in info.cost.items() if name != "seconds"}
    return Origin(
        info.method,
        _groups(General=general, Settings=info.settings, Cost=cost, Certificate=info.certificate),
        info.note,
    )


def _of_unlearning(receipt: Receipt, name: str) -> Origin:
    cost = receipt.costs[name]
    general = {
        "request": receipt.digest,
        "training data": receipt.train,
        "question": receipt.question,
        "seed": str(receipt.seed),
    }
    spent = {
        "rows gone over, a model": round(cost.passes),
        "share of a retraining": share(round(cost.share, 4)),
        "seconds a model": cost.seconds,
        "trainings behind it": cost.trainings,
    }
    return Origin(f"Unlearning by {name}", _groups(General=general, Settings=cost.settings, Cost=spent))


def _of_outcomes(outcomes: Outcomes) -> Origin:
    subsets = outcomes.subsets
    general = {
        "subsets": count(subsets.count, "subset"),
        "seeds per subset": str(outcomes.repeats),
        "share kept": share(round(subsets.fraction, 4)),
        "kind": subsets.kind,
        "root seed": str(subsets.seed),
        "diverged trainings": f"{outcomes.diverged:,}",
        "removal": REMOVAL[outcomes.removal],
    }
    recorded = {name: v for name, v in outcomes.facts.items() if name not in ("provenance", "trainings")}
    return Origin("The retrainings", _groups(General=general, Recorded=recorded))


def _groups(**named: Mapping[str, Any]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    return tuple((name, tuple(facts(things))) for name, things in named.items() if things)
