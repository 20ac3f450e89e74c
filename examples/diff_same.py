"""The same algorithm, other random numbers: is a difference found where there is none?

Once from other initial numbers on the same halves of the data (dealt within pairs), and three times with other
halves and other seeds (dealt freely). Principal directions of residuals are there in each of the four.

    python examples/diff_same.py
    dataloupe diff run examples/diff_same.py:without_change examples/diff_same.py:with_other_start \\
        --lab runs/diff_same

Expect no difference: no direction is kept in any of the four (p of the first from 0.10 to 0.76), and the mean
cosine of rows, 0.83 to 0.85, is no smaller than deals give (p from 0.25 to 0.78). The ridge of TRAK is the
same for all; where each ensemble chose its own, seed 2 chose another, and its mean cosine had p 0.01.
"""

import dataclasses

import torch
from diff_common import COMPONENTS, METHOD, attributed, facts, learner, make_model, told
from torch import nn

import dataloupe as dl


def make_another() -> nn.Module:
    """The same network from other random numbers."""
    torch.rand(1)
    return make_model()


train, targets = dl.data.fashion_mnist(train=2000, test=500)
without_change = dl.Question(learner(), train, targets, dl.outputs.margin)
with_other_start = dl.Question(learner(module=make_another), train, targets, dl.outputs.margin)


def main(folder: str = "runs/diff_same") -> dict:
    lab = dl.Lab(folder)
    first, started = attributed({"plain": without_change, "another start": with_other_start}, lab)
    found = [dl.compare(first, started, COMPONENTS, names=("plain", "another start"))]
    for seed in (1, 2, 3):
        again = dataclasses.replace(METHOD, seed=seed).attribute(without_change, lab)
        found.append(dl.compare(first, again, COMPONENTS, names=("plain", f"seed {seed}")))
    for one in found:
        told(one, targets)
    return {name: figures for one in found for name, figures in facts(one).items()}


if __name__ == "__main__":
    main()
