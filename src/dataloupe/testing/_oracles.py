"""Learners whose retraining is algebra: the closed-form truths that methods are held against."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import Examples, Removal, TorchModel


@dataclasses.dataclass(frozen=True)
class RidgeLearner:
    """Weighted ridge regression without an intercept, solved exactly in float64:

        W = argmin sum_i w_i |y_i - W x_i|^2 + penalty |W|^2 = (X'DX + penalty I)^-1 X'DY,  D = diag(w)

    Labels ``[n]`` or ``[n, c]`` are regressed as they are; whole-number labels are classes, one-hot. With
    ``noise`` above 0 every label gets its own Gaussian error, keyed by (seed, example): outputs then vary
    with the seed around the noise-free ones, exactly linearly. ``penalty=0`` is least squares.

    >>> data = Examples(torch.eye(3), labels=torch.tensor([1.0, 2.0, 3.0]))
    >>> model = RidgeLearner(penalty=1.0).train(data, torch.ones(3), seed=0)
    >>> model.predict(torch.eye(3)).squeeze(1).tolist()
    [0.5, 1.0, 1.5]
    """

    penalty: float = 1.0
    noise: float = 0.0
    classes: int | None = None
    removal: Removal = "repack"

    def train(self, data: Examples, weights: Float[Tensor, " n"], *, seed: int) -> TorchModel:
        """The exact solution, as a linear torch model."""
        x, y = self.arrays(data)
        if self.noise:
            keyed = Stream.root(seed)("label noise")
            draws = torch.from_numpy(keyed.numpy().standard_normal((len(x), y.shape[1])))
            y = y + self.noise * draws
        w = weights.double()[:, None]
        gram = x.T @ (w * x) + self.penalty * torch.eye(x.shape[1], dtype=torch.float64)
        solution = torch.linalg.solve(gram, x.T @ (w * y))
        module = nn.utils.skip_init(nn.Linear, x.shape[1], y.shape[1], bias=False)  # draws nothing
        return TorchModel(module, {"weight": solution.T.float()})

    def arrays(self, data: Examples) -> tuple[Tensor, Tensor]:
        """Inputs ``[n, d]`` and labels ``[n, c]`` in float64."""
        if not isinstance(data.inputs, Tensor) or data.inputs.ndim != 2 or data.labels is None:
            raise BadInput(
                "dl-210",
                asked="ridge regression",
                found="inputs that are no matrix, or no labels",
                do="give inputs [n, d] and labels",
            )
        y = data.labels
        if not y.is_floating_point():
            y = nn.functional.one_hot(y, self.classes or int(y.max()) + 1)
        return data.inputs.double(), y.double().reshape(len(y), -1)
