"""How gradients become features: a sketch of ours, none, or the projector that a script brings."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dataloupe._errors import BadInput, CapabilityError
from dataloupe._identity import Stream, canonical
from dataloupe._typing import Facts
from dataloupe.core import Sketch
from dataloupe.solve import Exact, FactoredSketch


class NoOpProjector:
    """No projection: features are the gradients, d = p. Takes what the original takes, and needs none of it.

    >>> NoOpProjector().proj_dim
    0
    """

    proj_dim = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing to keep."""


@dataclasses.dataclass(frozen=True)
class Reduction:
    """The sketch of every model id, a projection behind it if there is one, and what decides both.

    ``unit`` says in which units lambda is: the original divides by root p, and its projections of k dimensions are
    k times as long as the gradients.
    """

    identity: Facts
    sketch: Callable[[int], Sketch]
    project: Callable[[Tensor, int], Tensor] | None = None
    lengthened: bool = False

    def scale(self, width: int, p: int) -> float:
        """What features are multiplied by."""
        return (width / p if self.lengthened else 1 / p) ** 0.5


def reduction_of(projector: Any, dim: int, seed: int) -> Reduction:
    """What a projector, or its absence, means.

    Raises ``BadInput`` dl-973 (no dimension), ``CapabilityError`` dl-961 (no projector).
    """
    if projector is None:
        if dim < 1:
            raise BadInput(
                "dl-973", asked=f"proj_dim={dim}", found="a number below 1", do="give at least one dimension"
            )
        root = Stream.root(seed)
        return Reduction(
            {"kind": "factored sketch", "dim": dim, "seed": seed},
            lambda k: FactoredSketch(dim, seed=root("sketch", k).seed()),
            lengthened=True,
        )
    if isinstance(projector, Sketch):
        return Reduction({"kind": "sketch", "is": canonical(projector)}, lambda _: projector, lengthened=True)
    if getattr(projector, "proj_dim", None) == 0:
        return Reduction({"kind": "none"}, lambda _: Exact())
    if callable(getattr(projector, "project", None)) and not isinstance(projector, type):
        settings = {
            name: str(getattr(projector, name))
            for name in ("grad_dim", "proj_dim", "seed", "proj_type")
            if hasattr(projector, name)
        }
        identity = {"kind": "projector", "class": canonical(type(projector)), **settings}
        return Reduction(identity, lambda _: Exact(), lambda rows, k: projector.project(rows, model_id=k))
    raise CapabilityError(
        "dl-961",
        asked=f"the projector {projector!r}",
        found="no object with project(grads, model_id)",
        do="leave it out for dataloupe's own sketch of proj_dim dimensions, or give compat.NoOpProjector()",
    )
