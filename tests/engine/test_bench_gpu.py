"""The bench for GPUs runs anywhere, on sizes that take seconds."""

from pathlib import Path

import pytest
import torch

from dataloupe.engine import Compute
from dataloupe.run import load_module

BENCH = load_module(Path(__file__).parents[2] / "bench" / "gpu.py")


@pytest.mark.parametrize("name", ["CNN 28x28", "ResNet-9 32x32", "LM, 4 layers"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_model_is_measured_in_every_precision(name, precision):
    found = BENCH.measured(BENCH.cases(BENCH.SMALL)[name], Compute("cpu", precision, force=True), BENCH.SMALL)
    assert found["features/s"] > 0 and found["plain rows/s"] > 0 and found["plain MiB"] is None
    assert (found["precision error"] > 0.0) == (precision == "bf16")


def test_the_kernels_are_held_against_their_references():
    assert BENCH.sums(torch.device("cpu"), BENCH.SMALL)["relative difference"] < 1e-5


def test_models_have_the_sizes_that_are_told():
    counts = [sum(p.numel() for p in make(BENCH.Size()).parameters()) for make in (BENCH.cnn, BENCH.resnet9)]
    assert counts[0] == 105_866 and 2.0e6 < counts[1] < 2.6e6
