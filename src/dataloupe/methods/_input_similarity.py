"""A control without any model: training rows whose inputs resemble the target's."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float

from dataloupe._errors import BadInput
from dataloupe.core import (
    AbstractAttributor,
    DenseAttribution,
    Examples,
    Info,
    Lab,
    Needs,
    Question,
    input_leaves,
    sign_of_better,
)
from dataloupe.methods._models import unit_rows


@dataclasses.dataclass(frozen=True)
class InputSimilarity(AbstractAttributor):
    """Cosine of the inputs (pixels, columns) of target and training row, less the training rows' mean:

        tau_ji = cos(x_j - mean, x_i - mean)

    All inputs of floating point and bytes count; whole numbers (tokens, timesteps, classes) do not. For an output that is better the
    lower, minus that. Relative units.

    Raises ``BadInput`` dl-723 (inputs without such numbers, or of other shapes on both sides).

    >>> InputSimilarity().settings()
    {}
    """

    def needs(self, question: Question) -> Needs:  # noqa: ARG002  (the same for every question)
        """Nothing."""
        return Needs()

    def compute(self, question: Question, lab: Lab) -> DenseAttribution:  # noqa: ARG002  (asks nothing of it)
        """One product of matrices."""
        train, targets = _flat(question.train), _flat(question.targets)
        if train.shape[1] != targets.shape[1]:
            raise BadInput(
                "dl-723",
                asked="the similarity of inputs",
                found=f"{train.shape[1]} numbers in a training row, {targets.shape[1]} in a target",
                do="give inputs of one shape on both sides",
            )
        mean = train.mean(axis=0)
        (x, none), (y, no_target) = unit_rows(train - mean), unit_rows(targets - mean)
        scores = np.float32(sign_of_better(question.output)) * (y @ x.T).astype(np.float32)
        certificate = {"zero_rows": none + no_target}
        info = Info("input similarity", self.settings(), certificate, role="control")
        return DenseAttribution(scores[question.index[:, 0]], info, units="relative")


def _flat(data: Examples) -> Float[np.ndarray, "b p"]:
    data.refuse_missing(
        "the similarity of inputs", "fill the values, or use a method that only retrains (Datamodel)"
    )
    parts = [
        leaf.flatten(1).double() if leaf.ndim > 1 else leaf[:, None].double()
        for leaf in input_leaves(data.inputs)
        if leaf.is_floating_point() or leaf.dtype == torch.uint8
    ]
    if not parts:
        raise BadInput(
            "dl-723",
            asked="the similarity of inputs",
            found="inputs of whole numbers alone",
            do="use FeatureSimilarity, or BM25 for texts",
        )
    return torch.cat(parts, dim=1).numpy()
