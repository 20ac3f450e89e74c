"""Does every row of a batch have its gradients to itself? Two backward passes with other weights tell, tap by tap."""

import torch
from jaxtyping import Float
from torch import Tensor


class RowDigest:
    """One projection and the norm of every row's gradient, for each value that is tapped.

    With ``alone`` a backward pass is made for the digest only, and the graph is needed once more.
    """

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.projections: dict[object, Float[Tensor, " b"]] = {}
        self.norms: dict[object, Float[Tensor, " b"]] = {}

    def add(self, tapped: object, gradient: Float[Tensor, "b t"]) -> None:
        """The gradient of one tapped value."""
        rows = torch.view_as_real(gradient) if gradient.is_complex() else gradient
        rows = rows.flatten(1)  # [b, t]
        rows = rows if rows.dtype == torch.float64 else rows.float()
        directions = torch.arange(rows.shape[1], device=rows.device, dtype=rows.dtype).mul(2.399963).cos()
        self.projections[tapped] = (rows @ directions).double()  # [b, t] @ [t] -> [b]
        self.norms[tapped] = rows.norm(dim=1).double()


def rows_meet(
    first: RowDigest,
    second: RowDigest,
    first_weights: Float[Tensor, " b"],
    second_weights: Float[Tensor, " b"],
    tolerance: float,
    unit: float,
) -> bool:
    """Whether the gradient of some row did not follow its own example's weight: it belongs to another one, or to several.

    The gradient of row i of a value that only example i uses is w_i g_i, whatever the other weights are. Differences below
    100 units of rounding of the largest row are nothing.
    """
    if first.projections.keys() != second.projections.keys():
        return True
    u, v = first_weights.double(), second_weights.double()
    for tapped in first.projections:
        size = first.norms[tapped] * v.abs() + second.norms[tapped] * u.abs()  # [b]
        bound = tolerance * size + 100 * unit * size.max()
        for a, b in ((first.projections, second.projections), (first.norms, second.norms)):
            signs = (v, u) if a is first.projections else (v.abs(), u.abs())
            if bool(((a[tapped] * signs[0] - b[tapped] * signs[1]).abs() > bound).any()):
                return True
    return False
