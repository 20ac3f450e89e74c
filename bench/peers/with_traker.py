"""TRAK by `traker` on the CPU, fp32; run in an environment of its own.

    python with_traker.py time FOLDER --rows 1000 --batch 250
    python with_traker.py scores FOLDER --models 10 --ridges 0 1 ...

`time` prints JSON: seconds to featurise the first rows. `scores` writes FOLDER/traker.npz: scores [n, m] by ridge
(relative to the mean eigenvalue of the Gram) and number of models. The features are made once, by its own `featurize`
and `score`, and solved by its own score computer.
"""

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from fashion_5k import Clock, batches, make_model, problem
from trak import TRAKer
from trak.score_computers import BasicScoreComputer


def traker(given, task, folder: str) -> TRAKer:
    return TRAKer(
        model=make_model(),
        task="image_classification",
        train_set_size=len(task.train[1]),
        save_dir=folder,
        device="cpu",
        proj_dim=given.dim,
        use_half_precision=False,
        logging_level=logging.ERROR,
    )


def featurise(made: TRAKer, task, k: int, size: int) -> None:
    made.load_checkpoint(task.state(k), model_id=k)
    for batch in batches(task.train, size):
        made.featurize(batch, num_samples=len(batch[1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=("time", "scores"))
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--ridges", type=float, nargs="+", default=[0.0])
    given = parser.parse_args()
    task = problem(given.folder, given.rows)
    with tempfile.TemporaryDirectory() as own:
        made = traker(given, task, own)
        if given.job == "time":
            clock = Clock()
            featurise(made, task, 0, given.batch)
            sys.stdout.write(json.dumps({"seconds": clock.seconds}) + "\n")
            return
        n, m = len(task.train[1]), len(task.targets[1])
        sums = {ridge: torch.zeros(n, m) for ridge in given.ridges}
        weight, found = np.zeros((n, 1)), {}
        for k in range(given.models):
            featurise(made, task, k, given.batch)
            made.saver.model_ids[k]["is_finalized"] = 1  # its `score` asks for it; the solve comes below
            made.start_scoring_checkpoint("targets", task.state(k), k, m)
            for batch in batches(task.targets, given.batch):
                made.score(batch, num_samples=len(batch[1]))
            made.saver.load_current_store(k, "targets", m)
            store = made.saver.current_store
            x, phi = (torch.from_numpy(np.array(store[name])) for name in ("grads", "targets_grads"))
            weight += store["out_to_loss"]
            mean = float(x.double().square().sum()) / x.shape[1]
            for ridge, total in sums.items():
                computer = BasicScoreComputer(
                    torch.float32, "cpu", logging_level=logging.ERROR, lambda_reg=ridge * mean
                )
                computer.get_scores(computer.get_x_xtx_inv(x, computer.get_xtx(x)), phi, accumulator=total)
                if k + 1 in (1, 5, 10):
                    scores = total.numpy() / (k + 1) * (weight / (k + 1))
                    found[f"{ridge:g} x {k + 1}"] = scores.astype(np.float32)
            np.savez(Path(given.folder) / "traker.npz", **found)
            sys.stderr.write(f"traker: model {k} done\n")


if __name__ == "__main__":
    main()
