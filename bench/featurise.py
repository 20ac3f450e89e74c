"""What every example's sketched gradient costs beside one plain forward and backward pass over the same data.

    python bench/featurise.py

fashion-5k, CNN of 105,866 parameters, evaluation mode, all cores. The plain pass is the floor that a user knows: the
gradient of the summed margin in all parameters, batches of 250, no gradient of any one example. Medians of five.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import dataloupe as dl
from dataloupe.engine import gradients
from dataloupe.run import load_module
from dataloupe.solve import FactoredSketch, HashSketch

HERE = Path(__file__).parent


def median(work) -> float:
    """Seconds, after one turn to warm up."""
    work()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "featurise.json")
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "fashion.py").question
    model = question.learner.model(question.learner.init(seed=0))

    def plain() -> None:
        live = model.with_params({name: p.clone().requires_grad_() for name, p in model.params.items()})
        for start in range(0, question.n, 250):
            rows = question.train.take(np.arange(start, min(start + 250, question.n)))
            torch.autograd.grad(dl.outputs.margin.value(live, rows).sum(), list(live.params.values()))

    def sketched(sketch) -> None:
        bound = sketch.bind({name: p.shape for name, p in model.params.items()})
        out = torch.zeros(question.n, bound.width)

        def use(name, uses, place) -> None:
            for one in uses:
                bound.add(out[place], name, one)

        gradients(question, model, "train", use)

    floor = median(plain)
    result = {"cores": torch.get_num_threads(), "plain forward and backward s": floor}
    for name, sketch in (
        ("factors, no sketch", None),
        ("FactoredSketch(2048)", FactoredSketch(2048)),
        ("HashSketch(2048)", HashSketch(2048)),
    ):
        seconds = median(
            (lambda: gradients(question, model, "train", lambda *_: None))
            if sketch is None
            else (lambda sketch=sketch: sketched(sketch))
        )
        result |= {f"{name} s": seconds, f"{name} / plain": seconds / floor}
    for name, value in result.items():
        print(f"{name:36s} {value:.3g}")
    given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
