"""What do networks learn otherwise that see their images mirrored and shifted?

The same network and images; one of both sees every image mirrored half of the time, and moved by up to 2 pixels.

    python examples/diff_augmentation.py
    dataloupe diff run examples/diff_augmentation.py:without_augmentation examples/diff_augmentation.py:with_augmentation \\
        --lab runs/diff_augmentation

Expect two algorithms that differ (mean cosine of their rows 0.77, p 0.005, the least that 200 deals can give), and
one direction of the plain one, with 5.7 times the variance it has in the other, shoes at one end; its p of 0.01 is
just at the level. The hypothesis is plain: mirrored targets lose 0.22 [0.19, 0.26] of the probability of their
class without the augmentation, and nothing (+0.003 [-0.002, +0.008]) with it.
"""

import dataclasses

import torch
from diff_common import learner, studied

import dataloupe as dl

train, targets = dl.data.fashion_mnist(train=2000, test=500)
augment = dl.learners.Chain((dl.learners.Flip(), dl.learners.Shift(2)))
without_augmentation = dl.Question(learner(), train, targets, dl.outputs.margin)
with_augmentation = dl.Question(learner(augment=augment), train, targets, dl.outputs.margin)


@dataclasses.dataclass(frozen=True)
class Mirror:
    """Left and right change places, from strength 0 to 1."""

    draws: int = 0

    def __call__(self, inputs: torch.Tensor, strength: float, uniforms: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return inputs.flip(-1) if strength else inputs


mirror = Mirror()
claim = dl.CounterfactualTest(mirror, tolerance=0.02)


def main(folder: str = "runs/diff_augmentation") -> dict:
    return studied({"plain": without_augmentation, "augmented": with_augmentation}, claim, folder)


if __name__ == "__main__":
    main()
