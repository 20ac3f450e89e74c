"""What a datamodel says of the amount of data: by subsets of one size, and with a second size.

    python bench/amount.py

The small digits (500 rows, 100 targets): 2,000 halves; ten removals of 50 random rows, whose truth is the mean of 64 pairs of
retrainings. Prints the mean predicted change beside the true one, the error of a target's mean over the removals, their
correlation over targets, and the LDS on 60 fresh halves, which no second size may change. A minute on one core.
"""

import numpy as np
from small_digits import small_digits, small_lab

import dataloupe as dl

PAIRS, REMOVALS, REMOVED = 64, 10, 50


def main() -> None:
    question, lab = small_digits(), small_lab("what-if")
    halves = dl.Subsets(n=question.n, count=2000, seed=1)
    rng = np.random.default_rng(5)
    removals = [rng.choice(question.n, REMOVED, replace=False) for _ in range(REMOVALS)]
    worlds = dl.Subsets.without(question.n, [[], *removals], seed=900)
    means = lab.outcomes(question, worlds, repeats=PAIRS).mean().astype(np.float64)  # [1 + removals, m]
    truth = means[1:] - means[0]
    fresh = lab.outcomes(question, dl.Subsets(n=question.n, count=60, seed=77), repeats=2)
    print(f"true mean {truth.mean():+.3f}, root mean square over targets {rms(truth.mean(axis=0)):.3f}")
    for share in (None, 0.75, 0.95):
        amount = None if share is None else dl.Subsets(n=question.n, count=100, fraction=share, seed=1)
        found = dl.Datamodel(halves, amount=amount).attribute(question, lab)
        predicted = found.effect(removals).astype(np.float64)
        together = np.corrcoef(predicted.mean(axis=0), truth.mean(axis=0))[0, 1]
        print(
            f"second size {share}: mean {predicted.mean():+.3f}, error {rms((predicted - truth).mean(axis=0)):.3f}, "
            f"correlation {together:.2f}, LDS {dl.lds(found, fresh).value:.4f}"
        )


def rms(values: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    main()
