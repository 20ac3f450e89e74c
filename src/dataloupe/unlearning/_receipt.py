"""The receipt of an audit: request, cost, evidence, gates."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Int

from dataloupe._typing import Facts
from dataloupe.core import Examples, check_settings
from dataloupe.judge import Audit

WORDS = "evidence, not proof"


@dataclasses.dataclass(frozen=True)
class MethodCost:
    """What a method costs: ``share`` of a retraining in rows gone over, ``seconds`` a model as measured, ``trainings`` behind it.

    ``trainings`` (of a datamodel, of TRAK) are paid once for any number of requests. ``seconds`` hold them where this run made them.
    """

    share: float
    passes: float
    seconds: float
    trainings: int
    settings: Facts

    @property
    def requests(self) -> float:
        """The number of requests from which it costs less than retraining: trainings / (1 - share)."""
        return math.inf if self.share >= 1 else self.trainings / (1.0 - self.share)

    @property
    def verdict(self) -> str:
        """In words; a tie goes to retraining."""
        if self.share >= 1:
            return "no cheaper than retraining"
        if self.trainings:
            return f"cheaper than retraining from {math.floor(self.requests) + 1:,} requests"
        return "cheaper than retraining"


@dataclasses.dataclass(frozen=True)
class Gates:
    """What must hold of a method: the normalised KLoM on the rows to forget, and the KLoM elsewhere in units of the floor.

    >>> Gates().forget
    0.25
    """

    forget: float = 0.25
    elsewhere: float = 2.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self, "dl-511")


@dataclasses.dataclass(frozen=True, eq=False)
class Receipt:
    """What was asked, what each method cost, and how far it is from retraining: evidence, not proof.

    ``audit`` holds the judged numbers with their floors; ``digest`` and ``train`` name the rows and the data. ``gates``
    are what must hold. ``looks`` are the training rows and targets, so that a page can show some.
    """

    audit: Audit
    costs: dict[str, MethodCost]
    forget: Int[np.ndarray, " f"]
    digest: str
    train: str
    question: str
    rows: int
    seed: int
    gates: Gates = Gates()
    looks: tuple[Examples, Examples] | None = None
    provenance: Facts = dataclasses.field(default_factory=dict)

    def failed(self, method: str, gates: Gates | None = None) -> list[str]:
        """The gates that a method does not pass, in words; empty where it passes all.

        On rows to forget: normalised KLoM at most ``gates.forget`` (where doing nothing leaves nothing to unlearn, at most
        ``elsewhere`` floors). On the others: the 95th percentile at most ``elsewhere`` floors. A method of which
        models diverged fails.
        """
        gates = gates or self.gates
        if method in self.audit.lost:
            return [f"all {self.audit.diverged[method]} models diverged"]
        judged = self.audit.methods[method]
        floor = judged.floor.oracle_first.p95
        found = []
        for name, split in judged.splits.items():
            if name == "forget" and split.normalised is not None:
                if split.normalised > gates.forget:
                    found.append(f"forget: normalised KLoM {split.normalised:.2f}, above {gates.forget:g}")
            elif split.oracle_first.p95 > gates.elsewhere * floor:
                found.append(
                    f"{name}: KLoM {split.oracle_first.p95:.2f}, above {gates.elsewhere:g} x the floor {floor:.2f}"
                )
        lost = self.audit.diverged.get(method, 0)
        return found + ([f"{lost} models diverged"] if lost else [])

    def __str__(self) -> str:
        share = len(self.forget) / self.rows
        lines = [
            f"{len(self.forget)} of {self.rows} rows ({share:.1%}) to forget, request {self.digest}",
            str(self.audit),
        ]
        for name, cost in self.costs.items():
            failed = self.failed(name)
            verdict = "passes" if not failed else "; ".join(failed)
            lines.append(f"{name}: {cost.share:.1%} of a retraining, {cost.verdict}; {verdict}")
        return "\n".join([*lines, f"This is {WORDS}."])

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return {
            "words": WORDS,
            "request": {
                "forget": self.forget.tolist(),
                "digest": self.digest,
                "rows": self.rows,
                "seed": self.seed,
            },
            "train": self.train,
            "question": self.question,
            "audit": self.audit.to_json(),
            "costs": {
                name: {
                    **dataclasses.asdict(cost),
                    "requests": None if math.isinf(cost.requests) else cost.requests,
                    "verdict": cost.verdict,
                }
                for name, cost in self.costs.items()
            },
            "gates": dataclasses.asdict(self.gates),
            "failed": {name: self.failed(name) for name in self.costs},
        }
