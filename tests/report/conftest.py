"""Something to report on."""

import numpy as np
import pytest
import torch
from report_reading import M, N

from dataloupe.core import DenseAttribution, Examples, Info, Outcomes, Subsets, Uncertainty


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def examples(rng: np.random.Generator) -> Examples:
    images = rng.integers(0, 256, (N, 8, 8), dtype=np.uint8)
    return Examples(torch.zeros(N, 2), torch.arange(N) % 3, images=images, names=["fox", "owl", "hare"])


@pytest.fixture
def trak(rng: np.random.Generator, examples: Examples) -> DenseAttribution:
    info = Info(
        "TRAK",
        {"models": 3, "dim": 512},
        {"rank": 64},
        {"seconds": 12.5},
        fraction=0.5,
        question="abc123",
        better="higher",
    )
    return DenseAttribution(
        rng.normal(size=(M, N)),
        info,
        uncertainty=Uncertainty(np.full(M, 0.04)),
        train=examples,
        targets=examples[:M],
    )


@pytest.fixture
def fresh(rng: np.random.Generator, trak: DenseAttribution) -> Outcomes:
    subsets = Subsets(n=N, count=30, seed=1)
    truth = subsets.masks() @ trak.scores.T
    values = truth[:, None] + rng.normal(size=(30, 2, M)) * 2
    return Outcomes(subsets, values.astype(np.float32), np.zeros((30, 2), dtype=np.uint8))
