"""TRAK by `dattri` on the CPU; run in an environment of its own.

    python with_dattri.py time FOLDER --projection random_mask --rows 1000 --batch 250
    python with_dattri.py scores FOLDER --projection random_mask --ridges 0 1 ...

`time` prints JSON: seconds of its `cache` (gradients, projection, solve) for the first rows. `scores` writes
FOLDER/dattri-PROJECTION.npz: scores [n, m] by ridge (relative to the mean eigenvalue of the Gram), where "default" are
those of its `attribute`; the others are its projected gradients, solved as it does.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from dattri.algorithm import trak
from dattri.task import AttributionTask
from fashion_5k import Clock, batches, make_model, margin, problem


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=("time", "scores"))
    parser.add_argument("folder")
    parser.add_argument("--projection", default="normal")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--ridges", type=float, nargs="+", default=[])
    given = parser.parse_args()
    task = problem(given.folder, given.rows)
    model = make_model()
    model.load_state_dict(task.state(0))

    def logits(params, image: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, params, image[None])

    def output(params, pair) -> torch.Tensor:
        return margin(logits(params, pair[0]), pair[1][None]).squeeze()

    def correct(params, pair) -> torch.Tensor:
        return logits(params, pair[0]).softmax(1).gather(1, pair[1][None, None]).squeeze()

    projector = {"proj_dim": given.dim, "proj_type": given.projection}
    asked = AttributionTask(loss_func=output, model=model, checkpoints=task.state(0))
    method = trak.TRAKAttributor(asked, correct, projector_kwargs=dict(projector))
    loaders = [
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*side), batch_size=given.batch)
        for side in (task.train, task.targets)
    ]
    kept: list[torch.Tensor] = []
    recorded(kept)
    clock, failed = Clock() if given.job == "time" else None, ""
    try:
        method.cache(loaders[0])
    except torch.linalg.LinAlgError as error:
        failed = str(error)
    if clock is not None:
        sys.stdout.write(json.dumps({"seconds": clock.seconds, "failed": failed}) + "\n")
        return
    x, found = torch.cat(kept), {}
    kept.clear()
    if failed:
        sys.stderr.write(f"dattri, {given.projection}, without a ridge: {failed}\n")
        params, _ = asked.get_param(ckpt_idx=0)
        for batch in batches(task.targets, given.batch):
            each = asked.get_grad_target_func(in_dims=(None, 0))(params, batch) / method.norm_scaler
            trak.random_project(each, len(each), **method.projector_kwargs)(each, ensemble_id=0)
    else:
        found["default"] = method.attribute(loaders[1]).detach().numpy().astype(np.float32)
    phi = torch.cat(kept)
    whole = {name: tensor.detach() for name, tensor in model.named_parameters()}
    weight = 1 - torch.vmap(correct, in_dims=(None, 0))(whole, task.train)
    gram = x.T @ x
    for ridge in given.ridges:
        shifted = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram))
        found[f"{ridge:g}"] = (phi @ torch.linalg.solve(shifted, x.T) * weight).T.numpy()
    np.savez(Path(given.folder) / f"dattri-{given.projection}.npz", **found)


def recorded(kept: list[torch.Tensor]) -> None:
    """Keep what its projections give, so that other ridges need no second pass."""
    original = trak.random_project

    def random_project(*args, **kwargs):
        project = original(*args, **kwargs)

        def projected(feature, ensemble_id=0):
            kept.append(project(feature, ensemble_id).detach().clone())
            return kept[-1]

        return projected

    trak.random_project = random_project


if __name__ == "__main__":
    main()
