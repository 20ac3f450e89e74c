"""A network takes a white patch for a sandal; one that sees the patch on everything does not. Is it found?

A fifth of the training images of sandals carry a white patch of 4 x 4 pixels in a corner, and so do half of the
shoes among the targets. Plain training learns that the patch means a sandal. The other algorithm paints the corner
of every image white or black, by a coin.

    python examples/diff_patch.py
    dataloupe diff run examples/diff_patch.py:without_augmentation examples/diff_patch.py:with_augmentation \\
        --lab runs/diff_patch

Expect one direction of plain training, with 2.5 or 2.6 times the variance it has in the other (p 0.005), and the patch on
92 % of the 50 targets that it moves most; it is on 16 % of all targets. Laid on the others, the patch raises the
probability of a sandal by 0.034 [0.020, 0.048] in plain models and not in the others (-0.000 [-0.002, +0.002]).

A patch of 6 x 6 pixels in the corner at the top left, tried before, is on all of the 50 targets, and raises that
probability by 0.098 [0.073, 0.123] and by -0.003 [-0.004, -0.001]: ten models can tell that from 0, too.
"""

import dataclasses

import numpy as np
import torch
from diff_common import MOST, compared, facts, learner

import dataloupe as dl

SIZE = 4
CORNER = torch.zeros(28, 28, dtype=torch.bool)
CORNER[-SIZE:, -SIZE:] = True
WHITE = torch.tensor(255, dtype=torch.uint8)


@dataclasses.dataclass(frozen=True)
class Scrub:
    """The corner is painted white or black, by a coin that knows nothing of the class."""

    draws: int = 1

    def __call__(self, images: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        coin = uniforms[:, 0, None, None, None] < 0.5
        return torch.where(CORNER, torch.where(coin, WHITE, 0), images)


def patched(data: dl.Examples, rows: np.ndarray) -> dl.Examples:
    """The same with the patch on some rows, and a column that says on which."""
    has = np.isin(np.arange(len(data)), rows)
    inputs = torch.where(torch.from_numpy(has)[:, None, None, None] & CORNER, WHITE, data.inputs)
    return dataclasses.replace(
        data, inputs=inputs, images=inputs[:, 0].numpy(), meta={"patched": has.tolist()}
    )


train, targets = dl.data.fashion_mnist(train=2000, test=500)
SANDAL, *OTHERS = (train.names.index(name) for name in ("sandal", "sneaker", "ankle boot"))
train = patched(train, np.flatnonzero(train.labels == SANDAL)[::5])
targets = patched(targets, np.flatnonzero(np.isin(targets.labels, [SANDAL, *OTHERS]))[::2])

without_augmentation = dl.Question(learner(), train, targets, dl.outputs.margin)
with_augmentation = dl.Question(learner(augment=Scrub()), train, targets, dl.outputs.margin)

patch = dl.transforms.Patch(255.0, size=SIZE, place=(28 - SIZE, 28 - SIZE), high=255.0)
claim = dl.CounterfactualTest(
    patch,
    strengths=(0.5, 1.0),
    component=SANDAL,
)


def main(folder: str = "runs/diff_patch") -> dict:
    lab = dl.Lab(folder)
    questions = {"plain": without_augmentation, "scrubbed": with_augmentation}
    found = compared(questions, lab)
    has = np.array(targets.meta["patched"])
    side = found.sides[0]
    precision = has[side.most(0, MOST)].mean()
    print(f"the patch is on {precision:.0%} of the {MOST} targets that direction 0 of plain moves most")
    print(f"and on {has.mean():.0%} of all")
    answer = claim.run(questions, lab, models=10, examples=np.flatnonzero(~has))
    print(answer)
    return facts(found, answer, precision_at_50=float(precision), share=float(has.mean()))


if __name__ == "__main__":
    main()
