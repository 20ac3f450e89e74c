"""SGD held against torch's own modules, backward passes and optimizers, for modules as people write them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from dataloupe import outputs
from dataloupe.core import Examples, Question, Subsets
from dataloupe.engine import Backend, Work, run_unit
from dataloupe.learners import SGD

SUBSETS = Subsets(n=48, count=4, seed=3)


def points(dtype=torch.float32):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(48, 8, generator=draws).to(dtype)
    return Examples(x, x[:, :3].float().argmax(1))


def plain_torch(learner, examples, k):
    """Subset k trained by a module, ``backward`` and ``torch.optim``: nothing of the library but start and order."""
    weights = torch.from_numpy(SUBSETS.masks([k])[0].astype(np.float32))
    seed = SUBSETS.train_seed(k, 0)
    module, start = learner.module(), learner.init(seed=seed)
    module.load_state_dict({**start.params, **start.buffers}, strict=False)
    module.train()
    if learner.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            module.parameters(), learner.lr, momentum=learner.momentum, weight_decay=learner.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(module.parameters(), learner.lr, weight_decay=learner.weight_decay)
    for slot in learner.batches(weights, seed=seed):
        optimizer.zero_grad()
        logits = module(examples.inputs[slot.ids]).float()
        functional.cross_entropy(logits, examples.labels[slot.ids]).backward()
        optimizer.step()
    return {name: p.detach() for name, p in module.named_parameters()}


def by_the_lab(learner, examples, backend):
    question = Question(learner, examples, examples[:5], outputs.margin)
    return run_unit(Work(question, SUBSETS, 1, backend, True), (0, 4))


LOOP, STACKED = Backend("loop"), Backend("stacked", 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", [LOOP, STACKED], ids=["loop", "stacked"])
def test_half_precision_moves_as_in_plain_torch(dtype, backend):
    """Weights that fill whole vectors went through torch's fused kernel, which is wrong in half precision."""

    def module():
        return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3)).to(dtype)

    learner = SGD(module, epochs=2, lr=0.2, momentum=0.9, batch_size=8)
    found = by_the_lab(learner, points(dtype), backend)
    for k in (0, 3):
        for name, tensor in plain_torch(learner, points(dtype), k).items():
            np.testing.assert_allclose(found.tensors[name][k], tensor.float(), atol=0.01, err_msg=name)
