"""Our gradient features and scores beside `traker`, `dattri` and `kronfluence`: the same checkpoints, the same cores.

    python bench/attribution_peers.py --peers PYTHON                # everything: about an hour on two cores
    python bench/attribution_peers.py --peers PYTHON --only time    # the times alone: a minute

fashion-5k (examples/fashion.py). Its CNN is trained on halves of the data by dataloupe; tensors and data are handed to the
peers as safetensors and NumPy arrays, and their scores come back as arrays. PYTHON has what bench/peers/attribution.txt names.

Times are CPU seconds on one core for the first 1,000 training images, d = 2,048: the peers' grow with their number, since
`traker` and `dattri` draw their matrix anew for every batch. LDS is judged here, on the committed truth (bench/fashion.py). "best ridge" is
chosen on that truth, which flatters whoever it is said of.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fashion import truth_of
from safetensors.torch import save_file

import dataloupe as dl
from dataloupe.compat import TRAKer
from dataloupe.core import model_subsets, torch_model
from dataloupe.engine import gradients, threads
from dataloupe.run import load_module
from dataloupe.solve import FactoredSketch

HERE = Path(__file__).parent
DIM, BATCH = 2048, 250
RIDGES = [0.01, 0.1, 0.3, 1.0, 3.0, 10.0]
BEST = "best ridge (chosen on this truth)"


def hand_over(question: dl.Question, lab: dl.Lab, count: int, folder: Path) -> None:
    """The models that `TRAK(models=count)` looks at, and the data."""
    subsets, _ = model_subsets(question, count, fraction=0.5, seed=0)
    for k, model in enumerate(map(torch_model, lab.models(question, subsets))):
        save_file(
            {n: t.contiguous() for n, t in {**model.params, **model.buffers}.items()},
            folder / f"model-{k:02d}.safetensors",
        )
    sides = {"train": question.train, "targets": question.targets}
    arrays = {f"{side}_x": rows.inputs.numpy() for side, rows in sides.items()}
    np.savez(folder / "problem.npz", **arrays, **{f"{s}_y": rows.labels.numpy() for s, rows in sides.items()})


def peer(python: str, script: str, *words: object) -> dict:
    """What a peer prints, if it prints numbers."""
    command = [python, str(HERE / "peers" / f"with_{script}.py"), *map(str, words)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return json.loads(out[-1]) if out else {}


def parity(python: str) -> dict[str, float]:
    """One script for `traker`, run on it and on ours: correlation of the scores, and the scale between them."""
    script = str(HERE / "peers" / "traker_script.py")
    with tempfile.TemporaryDirectory() as own:
        theirs, ours = Path(own) / "theirs.npy", Path(own) / "ours.npy"
        subprocess.run([python, script, "trak", str(theirs)], check=True)
        subprocess.run([sys.executable, script, "dataloupe.compat", str(ours)], check=True)
        pairs = list(zip(np.load(theirs), np.load(ours), strict=True))
    names = ("checkpoint 0", "checkpoint 1", "both")
    found = {
        n: float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for n, (a, b) in zip(names, pairs, strict=True)
    }
    scales = {
        f"scale, {n}": float((a * b).sum() / (b * b).sum()) for n, (a, b) in zip(names, pairs, strict=True)
    }
    print({name: f"{value:.7g}" for name, value in (found | scales).items()}, flush=True)
    return found | scales


def times(
    question: dl.Question, lab: dl.Lab, python: str, folder: Path, rows: int, turns: int
) -> dict[str, float]:
    """Seconds to featurise the first rows, the fastest of some turns, ours before and after the others."""
    subsets, _ = model_subsets(question, 1, fraction=0.5, seed=0)
    model = torch_model(lab.models(question, subsets)[0])
    part = dl.Question(question.learner, question.train[:rows], question.targets, question.output)

    def ours() -> None:
        bound = FactoredSketch(DIM).bind({name: p.shape for name, p in model.params.items()})
        out = torch.zeros(rows, bound.width)
        gradients(
            part, model, "train", lambda name, found, at: [bound.add(out[at], name, one) for one in found]
        )

    def stored() -> None:
        with tempfile.TemporaryDirectory() as own:
            made = TRAKer(model.module, "image_classification", rows, own, proj_dim=DIM, logging_level=50)
            made.load_checkpoint({**model.params, **model.buffers}, 0)
            for batch in zip(part.train.inputs.split(BATCH), part.train.labels.split(BATCH), strict=True):
                made.featurize(batch, num_samples=len(batch[1]))

    def plain() -> None:
        live = model.with_params({name: p.clone().requires_grad_() for name, p in model.params.items()})
        for start in range(0, rows, BATCH):
            taken = part.train.take(np.arange(start, min(start + BATCH, rows)))
            torch.autograd.grad(dl.outputs.margin.value(live, taken).sum(), list(live.params.values()))

    own = {
        "a plain forward and backward pass": plain,
        "dataloupe": ours,
        "dataloupe's TRAKer, batch 250, to disk": stored,
    }
    found = {name: best_of_five(work) for name, work in own.items()}
    given = (folder, "--rows", rows)
    for name, script, *words in (
        ("traker, batch 100", "traker", "--batch", 100),
        ("traker, batch 250", "traker", "--batch", BATCH),
        ("traker, one batch of 1,000", "traker", "--batch", rows),
        ("dattri, normal, batch 250", "dattri", "--projection", "normal", "--batch", BATCH),
        ("dattri, random mask, batch 250", "dattri", "--projection", "random_mask", "--batch", BATCH),
        ("dattri, random mask, one batch of 1,000", "dattri", "--projection", "random_mask", "--batch", rows),
        ("kronfluence, factors of EK-FAC", "kronfluence", "--batch", BATCH),
    ):
        found[name] = min(peer(python, script, "time", *given, *words)["seconds"] for _ in range(turns))
        print(f"{name:45} {found[name]:.2f} s", flush=True)
    return {name: min(found[name], best_of_five(own[name])) if name in own else found[name] for name in found}


def best_of_five(work) -> float:
    """CPU seconds on one core of the fastest turn: what else runs on the machine only adds."""
    seconds = []
    with threads(1):
        for _ in range(5):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
    return min(seconds)


def peers_scores(python: str, folder: Path, count: int) -> None:
    peer(python, "traker", "scores", folder, "--models", count, "--batch", 500, "--ridges", 0, *RIDGES)
    for projection in ("normal", "random_mask"):
        peer(
            python,
            "dattri",
            *("scores", folder, "--projection", projection, "--batch", 500, "--ridges", *RIDGES),
        )
    peer(python, "kronfluence", "scores", folder, "--batch", BATCH)


def judged(
    question: dl.Question, lab: dl.Lab, folder: Path, count: int, keep: Callable[[dict], None]
) -> dict[str, dict]:
    """The LDS of every score that is there, ours beside them."""
    outcomes = truth_of(lab, question)
    found: dict[str, dict] = {}

    def judge(name: str, attribution: dl.Attribution) -> None:
        score = {k: v for k, v in dl.lds(attribution, outcomes).to_json().items() if k != "per_target"}
        found[name] = {k: score[k] for k in ("value", "interval", "ceiling")}
        print(f"{name:60} {score['value']:.3f}", flush=True)
        keep(found)

    def read(file: str) -> dict[str, dl.DenseAttribution]:
        if not (folder / file).exists():
            return {}
        with np.load(folder / file) as held:
            return {
                key: dl.DenseAttribution(np.ascontiguousarray(held[key].T), dl.Info(file), units="relative")
                for key in held.files
                if np.isfinite(held[key]).all()
            }

    def best(name: str, by_ridge: dict[str, dl.DenseAttribution]) -> None:
        tried = {ridge: dl.lds(one, outcomes, resamples=2).value for ridge, one in by_ridge.items()}
        if tried:
            ridge = max(tried, key=tried.__getitem__)
            judge(f"{name}, {BEST}", by_ridge[ridge])
            found[f"{name}, {BEST}"] |= {"ridge": float(ridge), "tried": tried}

    counts = sorted({1, 5, count})
    for k in counts:
        traker = {key: one for key, one in read("traker.npz").items() if key.endswith(f" x {k}")}
        traker = {key.split(" x ")[0]: one for key, one in traker.items()}
        if "0" in traker:
            judge(f"traker, {k} models, default (no ridge)", traker["0"])
        best(f"traker, {k} models", traker)
    for projection in ("normal", "random_mask"):
        dattri = read(f"dattri-{projection}.npz")
        if "default" in dattri:
            judge(f"dattri, 1 models, {projection}, default (no ridge)", dattri.pop("default"))
        best(f"dattri, 1 models, {projection}", dattri)
    for one in read("kronfluence.npz").values():
        judge("kronfluence EK-FAC, 1 models, default", one)
    for k in counts:
        judge(f"dataloupe TRAK, {k} models, default", dl.TRAK(models=k).attribute(question, lab))
        judge(f"dataloupe Influence, {k} models, default", dl.Influence(models=k).attribute(question, lab))
    return found


def main() -> None:
    """Ours and theirs on the same models and data: scores, then seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", required=True, help="the Python of an environment with the peers")
    parser.add_argument("--lab", default="runs/bench-fashion")
    parser.add_argument("--folder", type=Path, default=Path("runs/attribution-peers"))
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--only", choices=("parity", "time", "scores", "judge"))
    parser.add_argument("--json", type=Path, default=HERE / "results" / "attribution_peers.json")
    given = parser.parse_args()
    question = load_module(HERE.parent / "examples" / "fashion.py").question
    lab = dl.Lab(given.lab)
    given.folder.mkdir(parents=True, exist_ok=True)
    result = json.loads(given.json.read_text()) if given.only and given.json.exists() else {}

    def write(**found: dict) -> None:
        result.update(found)
        given.json.write_text(json.dumps(result, indent=1) + "\n")

    if not (given.folder / "problem.npz").exists():
        hand_over(question, lab, given.models, given.folder)
    if given.only in (None, "parity"):
        write(parity=parity(given.peers))
    if given.only in (None, "time"):
        found = times(question, lab, given.peers, given.folder, given.rows, given.turns)
        over = {name: seconds / found["dataloupe"] for name, seconds in found.items()}
        write(measured={"rows": given.rows, "dimensions": DIM, "seconds": found, "over dataloupe": over})
    if given.only in (None, "scores"):
        peers_scores(given.peers, given.folder, given.models)
    if given.only in (None, "judge"):
        judged(question, lab, given.folder, given.models, lambda found: write(lds=found))


if __name__ == "__main__":
    main()
