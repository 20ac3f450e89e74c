"""A script for `traker` as its users write them, with the import in its hands: the same file runs on both libraries.

    python traker_script.py trak OUT.npy                 # in the peers' environment
    python traker_script.py dataloupe.compat OUT.npy     # in ours

400 rows, 25 targets, two checkpoints of a network of 82 parameters, no projection, fp32, a ridge. Writes the scores of each
checkpoint alone and of both.
"""

import importlib
import logging
import sys
import tempfile

import numpy as np
import torch
from torch import nn


def data(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 8, generator=generator)
    return x, (x[:, :4] + 0.5 * torch.randn(rows, 4, generator=generator)).argmax(1)


def make_net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))


def trained(seed: int, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.state_dict()


def main() -> None:
    library, out = sys.argv[1:]
    module = importlib.import_module(library)
    projectors = (
        module if hasattr(module, "NoOpProjector") else importlib.import_module(f"{library}.projectors")
    )
    torch.set_num_threads(1)
    train, targets = data(400, 0), data(25, 1)
    checkpoints = [trained(seed, *train) for seed in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        traker = module.TRAKer(
            model=make_net(),
            task="image_classification",
            train_set_size=400,
            save_dir=folder,
            device="cpu",
            projector=projectors.NoOpProjector(device="cpu"),
            proj_dim=0,
            use_half_precision=False,
            lambda_reg=1e-2,
            logging_level=logging.ERROR,
        )
        for model_id, checkpoint in enumerate(checkpoints):
            traker.load_checkpoint(checkpoint, model_id=model_id)
            for batch in zip(*(part.split(100) for part in train), strict=True):
                traker.featurize(batch=batch, num_samples=batch[0].shape[0])
        traker.finalize_features()
        found = []
        for ids in ([0], [1], [0, 1]):
            name = "targets-" + "-".join(map(str, ids))
            for model_id in ids:
                traker.start_scoring_checkpoint(
                    exp_name=name, checkpoint=checkpoints[model_id], model_id=model_id, num_targets=25
                )
                traker.score(batch=targets, num_samples=25)
            found.append(np.array(traker.finalize_scores(exp_name=name, model_ids=ids), dtype=np.float64))
    np.save(out, np.stack(found))


if __name__ == "__main__":
    main()
