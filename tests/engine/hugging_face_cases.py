"""What the tests of Hugging Face's models share."""

import torch


def drawn(make, seed=0, dtype=torch.float64):
    """A model with larger random weights than the library's own, so that nothing is nearly linear."""
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        module = make().to(dtype).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=draws, dtype=dtype) * 0.3 + (p.ndim == 1))
    return module
