"""Unlearning requests one after the other, and an attack on what is left.

    python bench/requests.py --lab runs --json bench/results/unlearning-requests.json     # the lab of bench/unlearning.py

Digits. Three requests of .7 % of the rows (random, component, class), unlearned by DMM one after the other, against the three as
one request: KLoM against 100 models trained without any of the rows. Then U-LiRA: how well a likelihood ratio tells 100 unlearned
models from 100 that never saw the rows, by their margins on these rows (one half: not at all).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import scipy.special
from unlearning import SETTINGS, forget_sets

import dataloupe as dl
from dataloupe.judge import audit_outputs
from dataloupe.unlearning import Context, everything
from dataloupe.unlearning._audit import ensembles_for, predictions_all, splits_of

MODELS = 100


def main() -> None:
    """Train, unlearn, judge, attack, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    settings = SETTINGS["digits"]
    question = settings["question"]()
    lab = dl.Lab(asked.lab / "unlearning-digits", progress=False)
    sets = forget_sets(question, lab, settings["group"], settings["picks"], fresh=False)
    by = dl.unlearning.Regression(
        dl.Subsets(n=question.n, count=settings["subsets"], fraction=0.75, seed=settings["seed"], seeds=20)
    )
    found = {
        "sequential": sequential(question, lab, sets, dl.unlearning.DMM(by)),
        "attack": attack(question, lab, sets, by),
    }
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def margins_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The own class's logit less the log of the others' sum."""
    z, rows = logits.astype(np.float64), np.arange(len(labels))
    own = z[:, rows, labels]
    z[:, rows, labels] = -np.inf
    return own - scipy.special.logsumexp(z, axis=2)


def sequential(
    question: dl.Question, lab: dl.Lab, sets: dict[str, np.ndarray], method: dl.unlearning.Unlearner
) -> dict:
    """Three requests in a row and at once, judged by models without any of the rows."""
    requests: list[np.ndarray] = []
    for ids in (sets[f"{kind} 0.7%"] for kind in ("random", "component", "class")):
        gone = np.concatenate([np.empty(0, np.int64), *requests])
        requests.append(np.setdiff1d(ids, gone))
    together = np.sort(np.concatenate(requests))
    context = Context.of(question, lab, together)
    ensembles = ensembles_for(context, MODELS, MODELS)
    models, share = ensembles.full, 0.0
    for ids in requests:
        done = dl.unlearn(models, ids, method=method, lab=lab, question=question)
        models, share = done.models, share + done.share
    at_once = dl.unlearn(ensembles.full, together, method=method, lab=lab, question=question)
    judged = audit_outputs(
        {
            "one after the other": predictions_all(models, ensembles.every),
            "at once": predictions_all(at_once.models, ensembles.every),
        },
        ensembles.oracles,
        ensembles.before,
        np.asarray(ensembles.every.targets.labels),
        splits_of(context),
        intervals=False,
    )
    told = {"rows": [len(ids) for ids in requests]}
    for name, spent in (("nothing", 0.0), ("one after the other", share), ("at once", at_once.share)):
        splits = judged.methods[name].splits
        p95 = {split: at.oracle_first.p95 for split, at in splits.items()}
        told[name] = {"p95": p95, "normalised": splits["forget"].normalised, "share": spent}
        print(
            f"{name:20s} p95 "
            + " / ".join(f"{p95[s]:.2f}" for s in ("forget", "retain", "validation"))
            + f", normalised {splits['forget'].normalised:.2f}, {spent:.1%} of a retraining",
            flush=True,
        )
    return told


def attack(
    question: dl.Question, lab: dl.Lab, sets: dict[str, np.ndarray], by: dl.unlearning.Predictor
) -> dict:
    """Accuracy of U-LiRA on the rows of some requests, by method."""
    u = dl.unlearning
    methods: dict[str, u.Unlearner] = {
        "nothing": u.DoNothing(),
        "retrain": u.Retrain(),
        "DMM": u.DMM(by),
        "ascent": u.GradientAscent(lr=1e-2, epochs=3),
        "SCRUB": u.SCRUB(lr=5e-3),
    }
    every, told = everything(question), {}
    labels = np.asarray(every.targets.labels)
    for name in ("random 2.0%", "component 0.7%", "class 0.7%", "component 2.0%", "class 2.0%"):
        context = Context.of(question, lab, sets[name])
        ensembles = ensembles_for(context, MODELS, MODELS)
        ids = context.forget
        never = margins_of(ensembles.oracles[:, ids], labels[ids])
        told[name] = {}
        for way, method in methods.items():
            done = dl.unlearn(ensembles.full, ids, method=method, lab=lab, question=question)
            kept = [model for model, fine in zip(done.models, done.finite, strict=True) if fine]
            left = margins_of(predictions_all(kept, every)[:, ids], labels[ids])
            trials = np.concatenate([left, never])
            roles = np.repeat([1, -1], [len(left), len(never)])[:, None] * np.ones_like(trials, dtype=int)
            judged = dl.judge.ulira(trials, roles.astype(np.int64), np.arange(len(trials)))
            told[name][way] = [judged.accuracy, *judged.interval]
            low, high = judged.interval
            print(f"{name:16s} {way:10s} U-LiRA {judged.accuracy:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    return told


if __name__ == "__main__":
    main()
