"""What do networks learn otherwise that see their images mirrored and shifted? TODO"""

import dataclasses

import torch
from diff_common import compared, facts, learner

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
    lab = dl.Lab(folder)
    questions = {"plain": without_augmentation, "augmented": with_augmentation}
    found = compared(questions, lab)
    answer = claim.run(questions, lab, models=10)
    print(answer)
    return facts(found, answer)


if __name__ == "__main__":
    main()
