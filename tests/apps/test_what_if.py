"""What-if: predictions and verifications on the ridge oracle, where the truth is algebra."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError, UnitsError
from dataloupe.apps import what_if
from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab, Question, Subsets, Uncertainty
from dataloupe.methods import calibrate
from dataloupe.testing import RidgeLearner

N, D, M = 60, 4, 10


def world(seed, noise=0.3):
    """A regression question, its noise-free twin, and the first-order influence of every row."""
    rng = np.random.default_rng(seed)
    x, beta = rng.standard_normal((N, D)), rng.standard_normal(D)
    y = x @ beta + rng.standard_normal(N)
    train = Examples(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    phi = rng.standard_normal((M, D))
    targets = Examples(torch.tensor(phi, dtype=torch.float32), torch.zeros(M))
    inverse = np.linalg.inv(x.T @ x + np.eye(D))
    influence = phi @ inverse @ x.T * (y - x @ inverse @ x.T @ y)
    noisy = Question(RidgeLearner(penalty=1.0, noise=noise), train, targets, outputs.value)
    return noisy, dataclasses.replace(noisy, learner=RidgeLearner(penalty=1.0)), influence


def test_predicted_and_verified_intervals_cover_the_true_change():
    verified, predicted, verdicts = [], [], []
    for seed in range(10):
        noisy, exact, influence = world(seed)
        raw = DenseAttribution(influence / 75, Info("influence"), units="relative")
        lab = MemoryLab()
        recipe = Subsets(n=N, count=40, fraction=0.9, seed=seed)
        scaled = calibrate(raw, lab.outcomes(noisy, recipe, repeats=2))
        rng = np.random.default_rng(1000 + seed)
        for q in range(20):
            remove, target = rng.choice(N, 6, replace=False), int(rng.integers(M))
            answer = what_if(noisy, lab, scaled, target, remove, verify=5, seed=1000 * seed + q)
            truth = np.diff(lab.outcomes(exact, Subsets.without(N, [[], remove])).values[:, 0, target])[0]
            low, high = answer.verified_interval
            verified.append(low <= truth <= high)
            low, high = answer.predicted_interval
            predicted.append(low <= truth <= high)
            verdicts.append(answer.verdict)
    print(np.mean(verified), np.mean(predicted), {v: verdicts.count(v) for v in set(verdicts)})
    assert np.mean(verified) >= 0.93
    assert np.mean(predicted) >= 0.93
    assert verdicts.count("disagree") <= 14
