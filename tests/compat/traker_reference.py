"""TRAK as `traker` 0.3.2 computes it (its inverse not rescaled), in plain NumPy and autograd, in double precision."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from dataloupe.compat import TRAKer

N, M, CLASSES = 120, 9, 3


def make_net(seed: int) -> nn.Module:
    """55 parameters, in double precision."""
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, CLASSES)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


def data(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (rows,), generator=generator)


TRAIN, TARGETS = data(N, 1), data(M, 2)
NETS = [make_net(seed) for seed in (3, 4)]


def margin(z: torch.Tensor, y: int) -> torch.Tensor:
    return z[y] - torch.cat([z[:y], z[y + 1 :]]).logsumexp(0)


def gradients(net: nn.Module, side: tuple[torch.Tensor, torch.Tensor], names: Sequence[str]) -> np.ndarray:
    """[rows, p], by one backward pass for every row."""
    rows = []
    for x, y in zip(*side, strict=True):
        net.zero_grad()
        margin(net(x), int(y)).backward()
        rows.append(torch.cat([dict(net.named_parameters())[name].grad.flatten() for name in names]))
    return torch.stack(rows).numpy()


def reference(
    nets: Sequence[nn.Module],
    ridge: float,
    names: Sequence[str] | None = None,
    project: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
) -> np.ndarray:
    """mean_k [X (X'X + ridge I)^-1 phi'] * mean_k [1 - p], with X = project(gradients) / root p: [n, m]."""
    total, weight = np.zeros((N, M)), np.zeros((N, 1))
    for net in nets:
        wanted = list(names or dict(net.named_parameters()))
        x, phi = gradients(net, TRAIN, wanted), gradients(net, TARGETS, wanted)
        p = x.shape[1]
        x, phi = project(x) / p**0.5, project(phi) / p**0.5
        total += x @ np.linalg.inv(x.T @ x + ridge * np.eye(x.shape[1])) @ phi.T
        with torch.no_grad():
            weight += 1 - net(TRAIN[0]).softmax(1).gather(1, TRAIN[1][:, None]).numpy()
    return total / len(nets) * weight / len(nets)


def featurised(traker: TRAKer, net: nn.Module, k: int, batch: int = 50) -> None:
    """As scripts do it."""
    traker.load_checkpoint(net.state_dict(), model_id=k)
    for x, y in zip(*(part.split(batch) for part in TRAIN), strict=True):
        traker.featurize(batch=[x, y], num_samples=x.shape[0])


def asked(traker: TRAKer, net: nn.Module, k: int, batch: int = 4) -> None:
    traker.start_scoring_checkpoint("test", net.state_dict(), model_id=k, num_targets=M)
    for x, y in zip(*(part.split(batch) for part in TARGETS), strict=True):
        traker.score(batch=[x, y], num_samples=x.shape[0])


def scored(traker: TRAKer, nets: Sequence[nn.Module] = NETS) -> np.ndarray:
    """The whole of a script."""
    for k, net in enumerate(nets):
        featurised(traker, net, k)
    traker.finalize_features()
    for k, net in enumerate(nets):
        asked(traker, net, k)
    return traker.finalize_scores("test")
