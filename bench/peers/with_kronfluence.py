"""EK-FAC by `kronfluence` on the CPU; run in an environment of its own.

    python with_kronfluence.py time FOLDER --rows 1000
    python with_kronfluence.py scores FOLDER

`time` prints JSON: seconds to fit its factors on the first rows. `scores` writes FOLDER/kronfluence.npz: [n, m] with the
measurement margin at its defaults: the Fisher from sampled labels, damping .1 of each block's mean eigenvalue.
A positive score of ours raises the margin, so theirs (the gradients' product in the inverse) change sign.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fashion_5k import Clock, make_model, margin, problem
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task


class Margins(Task):
    def compute_train_loss(self, batch, model, sample=False):
        z = model(batch[0])
        y = torch.multinomial(z.detach().softmax(1), 1).squeeze(1) if sample else batch[1]
        return F.cross_entropy(z, y, reduction="sum")

    def compute_measurement(self, batch, model):
        return margin(model(batch[0]), batch[1]).sum()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=("time", "scores"))
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--batch", type=int, default=250)
    given = parser.parse_args()
    task = problem(given.folder, given.rows)
    train, targets = (torch.utils.data.TensorDataset(*side) for side in (task.train, task.targets))
    with tempfile.TemporaryDirectory() as own:
        model = make_model()
        model.load_state_dict(task.state(0))
        live = prepare_model(model.eval(), Margins())
        analyzer = Analyzer("fashion", live, Margins(), cpu=True, output_dir=own, disable_tqdm=True)
        clock = Clock() if given.job == "time" else None
        analyzer.fit_all_factors("factors", train, given.batch, factor_args=FactorArguments())
        if clock is not None:
            sys.stdout.write(json.dumps({"seconds": clock.seconds}) + "\n")
            return
        sides = targets, train, given.batch, given.batch
        analyzer.compute_pairwise_scores("scores", "factors", *sides, score_args=ScoreArguments())
        scores = analyzer.load_pairwise_scores("scores")["all_modules"]
        np.savez(Path(given.folder) / "kronfluence.npz", default=-scores.T.float().numpy())


if __name__ == "__main__":
    main()
