"""Unlearning: KLoM of every method on random and coherent forget sets of several sizes, beside oracles and doing nothing.

    python bench/unlearning.py --only digits --json bench/results/unlearning-digits.json
    python bench/unlearning.py --only fashion --json bench/results/unlearning-fashion.json     # hours on two cores: 8,000 trainings and 100 for every cell of retrained models
    python bench/unlearning.py --only digits --fresh --json bench/results/unlearning-digits-fresh.json
    python bench/unlearning.py --only digits --subsets 500 --json bench/results/unlearning-digits-500.json
    python bench/unlearning.py --only cnn --json bench/results/unlearning-cnn.json           # two and a half hours on one core

100 models of all of the data and 100 oracles per forget set (CNN: 50); results are added to those of --json, method by method. Batch sizes are such that a removal of up to 2 %
leaves the number of steps as it was: a step more or less moves every output a little, whatever the rows.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np

import dataloupe as dl
from dataloupe.judge import MethodAudit
from dataloupe.judge._divergences import most
from dataloupe.run import load_module

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
SHARES = (0.007, 0.02, 0.1)


def digits() -> dl.Question:
    question = load_module(EXAMPLES / "digits.py").question
    learner = dataclasses.replace(question.learner, batch_size=63)
    return dataclasses.replace(question, learner=learner, targets=dl.data.digits()[1])


def fashion() -> dl.Question:
    question = load_module(EXAMPLES / "fashion_mlp.py").question
    return dataclasses.replace(question, learner=dataclasses.replace(question.learner, batch_size=125))


def cnn() -> dl.Question:
    question = load_module(EXAMPLES / "fashion.py").question
    return dataclasses.replace(question, learner=dataclasses.replace(question.learner, batch_size=125))


COMMON = {
    "models": 100,
    "estimator": "quantile",
    "newton": True,
    "trak": 5,
    "picks": 5,
    "dim": 2048,
    "seed": 5,
    "prior": True,
}
SETTINGS = {
    "digits": COMMON
    | {
        "question": digits,
        "subsets": 8000,
        "trak": 10,
        "picks": 10,
        "dim": 4096,
        "prior": False,
        "group": "8",
        "fresh": "3",
    },
    "fashion": COMMON
    | {
        "question": fashion,
        "subsets": 8000,
        "seed": 6,
        "trak": 20,
        "dim": 1024,
        "group": "shirt",
        "fresh": "coat",
        "newton": False,
    },
    "cnn": COMMON
    | {
        "question": cnn,
        "subsets": 0,
        "trak": 10,
        "models": 50,
        "dim": 1024,
        "estimator": "gaussian",
        "group": "shirt",
        "fresh": "coat",
        "newton": False,
        "sets": ("random 0.7%", "component 0.7%"),
        "methods": ("DMM-TRAK", "DMM-TRAK, calibrated", "gradient descent", "ascent and descent", "SCRUB"),
    },
}


def forget_sets(
    question: dl.Question, lab: dl.Lab, group: str, models: int, fresh: bool
) -> dict[str, np.ndarray]:
    """Random rows, the top of the first principal component, and one class's rows most alike, of every size.

    Fresh: other random rows, the second component, another class; no setting was ever looked at on them.
    """
    by_train = dataclasses.replace(question, targets=question.train)
    trak = dl.TRAK(models=models).attribute(by_train, lab)
    members = dl.unlearning.pick_where(question.train, "label", group)
    found = {}
    for share in SHARES:
        count = round(share * question.n)
        found[f"random {share:.1%}"] = dl.unlearning.pick_random(question.n, count, seed=int(fresh))
        found[f"component {share:.1%}"] = dl.unlearning.pick_ends(trak, int(fresh), top=count)
        found[f"class {share:.1%}"] = alike(question.train, members, count)
    return found


def alike(data: dl.Examples, members: np.ndarray, count: int) -> np.ndarray:
    """The rows of a class that are nearest to its first, in pixels."""
    x = data.take(members).inputs.flatten(1).double()
    away = ((x - x[0]) ** 2).sum(1).numpy()
    return np.sort(members[np.argsort(away, kind="stable")[:count]])


@dataclasses.dataclass(frozen=True, eq=False)
class Otherwise:
    """Another effect of the same regression, which is fitted once."""

    by: dl.unlearning.Regression
    effect: str

    def changes(self, context: dl.unlearning.Context) -> np.ndarray:
        return self.by.fitted(context.question, context.lab).changes(context.forget, self.effect)

    @property
    def trainings(self) -> int:
        return self.by.trainings

    @property
    def prior(self) -> object:
        return self.by.prior


def predictors(question: dl.Question, settings: dict) -> dict[str, dl.unlearning.Predictor]:
    """What predicts oracles, by what its methods are called after DMM or DM-Direct."""
    u, n = dl.unlearning, question.n
    method = dl.TRAK(models=settings["trak"], dim=settings["dim"], fraction=0.75)
    trak = u.Gradients(method, dl.Subsets(n=n, count=40, fraction=0.75, seed=9), "group")
    with_trak: dict[str, u.Predictor] = {
        "-TRAK": trak,
        "-TRAK, calibrated": u.Calibrated(trak, gradients=method),
    }
    if not settings["subsets"]:
        return with_trak
    count, seed = settings["subsets"], settings["seed"]
    subsets = dl.Subsets(n=n, count=count, fraction=0.75, seed=seed, seeds=20)
    by = u.Regression(subsets, prior=method if settings["prior"] else None)
    integrated = u.Integrated(by, dl.Subsets(n=n, count=count // 2, fraction=0.25, seed=seed + 20, seeds=20))
    found: dict[str, u.Predictor] = {"": by, ", calibrated": u.Calibrated(by, gradients=method)}
    found |= {", integrated": integrated, ", both": u.Calibrated(integrated, gradients=method)}
    return found | with_trak


def grids(by: dict[str, dl.unlearning.Predictor], newton: bool) -> dict[str, dict]:
    """Every method with the settings that are tried; of several the best is shown, chosen on the reported outcomes."""
    u = dl.unlearning
    rates = (1e-3, 1e-2)
    found: dict[str, dict] = {f"DMM{name}": {"": u.DMM(one)} for name, one in by.items()}
    found |= {f"DM-Direct{name}": {"": u.DMDirect(one)} for name, one in by.items()}
    if isinstance(by.get(""), u.Regression):
        found |= {f"DM-Direct, {how}": {"": u.DMDirect(Otherwise(by[""], how))} for how in ("sum", "diag")}
    found |= {
        "oracle matching": {"": u.OracleMatching()},
        "retrain": {"": u.Retrain()},
        "gradient descent": {f"lr {lr:g}": u.GradientDescent(lr=lr) for lr in (*rates, 5e-2)},
        "gradient ascent": {
            f"lr {lr:g}, {e} epochs": u.GradientAscent(lr=lr, epochs=e) for lr in rates for e in (3, 10)
        },
        "ascent and descent": {f"lr {lr:g}": u.AscentDescent(lr=lr) for lr in (*rates, 5e-2)},
        "NegGrad+": {
            f"lr {lr:g}, alpha {a:g}": u.NegGradPlus(lr=lr, alpha=a) for lr in rates for a in (0.95, 0.999)
        },
        "SCRUB": {f"lr {lr:g}": u.SCRUB(lr=lr) for lr in (5e-4, 5e-3, 5e-2)},
        "SCRUB+R": {f"lr {lr:g}": u.SCRUB(lr=lr, rewind=True) for lr in (5e-3, 5e-2)},
        "l1-sparse": {f"gamma {g:g}": u.L1Sparse(gamma=g) for g in (5e-5, 5e-4)},
        "CF-k": {f"lr {lr:g}": u.CFk(lr=lr) for lr in rates},
        "EU-k": {f"lr {lr:g}": u.EUk(lr=lr) for lr in rates},
    }
    if newton:
        found["Newton step"] = {
            f"damping {d:g}": u.NewtonStep(rows=256, iterations=10, damping=d) for d in (0.1, 1.0)
        }
    return found


def worst_split(judged: MethodAudit) -> float:
    """What the best setting has least of: the largest 95th percentile over the three splits."""
    return max(split.oracle_first.p95 for split in judged.splits.values())


def judge(
    question: dl.Question, lab: dl.Lab, forget: np.ndarray, methods: dict[str, dict], settings: dict
) -> dict:
    """One forget set: some methods, each at its best setting."""
    every = {f"{name}|{how}": method for name, grid in methods.items() for how, method in grid.items()}
    receipt = dl.unlearning.audit(
        every,
        forget,
        question=question,
        lab=lab,
        models=settings["models"],
        oracles=settings["models"],
        estimator=settings["estimator"],
    )
    told = {"nothing": row(receipt, "nothing", "")}
    for name, grid in methods.items():
        kept = [how for how in grid if f"{name}|{how}" in receipt.audit.methods]
        how = min(kept, key=lambda how, name=name: worst_split(receipt.audit.methods[f"{name}|{how}"]))
        told[name] = row(receipt, f"{name}|{how}", how)
    floor = receipt.audit.methods["nothing"].floor.oracle_first.p95
    return {
        "rows": len(forget),
        "digest": receipt.digest,
        "floor": floor,
        "accuracy": receipt.audit.accuracy,
        "methods": told,
    }


def row(receipt: dl.unlearning.Receipt, key: str, how: str) -> dict:
    """One method's numbers."""
    judged, cost = receipt.audit.methods[key], receipt.costs.get(key)
    return {
        "settings": how,
        "share": cost.share if cost else 0.0,
        "trainings": cost.trainings if cost else 0,
        "normalised": judged.splits["forget"].normalised,
        "splits": {
            name: [one.oracle_first.p50, one.oracle_first.p95, one.oracle_first.p99]
            for name, one in judged.splits.items()
        },
        "accuracy": {name: one.accuracy for name, one in judged.splits.items()},
        "diverged": receipt.audit.diverged.get(key, 0),
    }


def main() -> None:
    """Every forget set, every method, written one by one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(SETTINGS), default="digits")
    parser.add_argument("--lab", type=Path, default=Path("runs"))
    parser.add_argument("--sets", nargs="*", help="names of forget sets; default: all")
    parser.add_argument("--methods", nargs="*", help="names of methods; default: all")
    parser.add_argument("--fresh", action="store_true", help="forget sets that no setting was looked at on")
    parser.add_argument("--subsets", type=int, help="trainings that the regression rests on; default: 8,000")
    parser.add_argument("--missing", action="store_true", help="only cells that --json lacks")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", action="store_true", help="only write the table of --json anew")
    asked = parser.parse_args()
    if asked.table:
        asked.json.with_suffix(".md").write_text(markdown(json.loads(asked.json.read_text())))
        return
    settings = SETTINGS[asked.only] | ({"subsets": asked.subsets} if asked.subsets else {})
    question = settings["question"]()
    lab = dl.Lab(asked.lab / f"unlearning-{asked.only}", progress=False)
    by = predictors(question, settings)
    facts = {name: settings[name] for name in ("models", "estimator", "subsets")}
    found: dict = {**facts, "sets": {}}
    if asked.json and asked.json.exists():
        found = json.loads(asked.json.read_text()) | facts
    group = settings["fresh" if asked.fresh else "group"]
    for name, forget in forget_sets(question, lab, group, settings["picks"], asked.fresh).items():
        if name not in (asked.sets or settings.get("sets", (name,))):
            continue
        methods = grids(by, newton=settings["newton"])
        for one, grid in methods.items():
            if one not in (asked.methods or settings.get("methods", (one,))):
                continue
            if asked.missing and one in found["sets"].get(name, {}).get("methods", {}):
                continue
            start = time.perf_counter()
            judged = judge(question, lab, forget, {one: grid}, settings)
            known = found["sets"].setdefault(name, judged)
            judged["methods"] = ordered(known["methods"] | judged["methods"], methods)
            found["sets"][name] = judged
            told(name, judged, one, time.perf_counter() - start)
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1) + "\n")
                asked.json.with_suffix(".md").write_text(markdown(found))


def ordered(rows: dict[str, dict], methods: dict[str, dict]) -> dict[str, dict]:
    """Rows in the order of the methods, doing nothing first."""
    names = ["nothing", *methods, *rows]
    return {name: rows[name] for name in dict.fromkeys(names) if name in rows}


def markdown(found: dict) -> str:
    """All forget sets: normalised KLoM on the rows to forget, and the 95th percentiles, of every method."""
    sets = found["sets"]
    top = most(found["estimator"], found["models"], found["models"], 10)[0]
    methods = list(dict.fromkeys(name for one in sets.values() for name in one["methods"]))
    rests = (
        f"DMM rests on {found['subsets']:,} trainings"
        if found["subsets"]
        else "DMM-TRAK rests on TRAK's models and 40 trainings"
    )
    more = ""
    if any("calibrated" in method for method in methods):
        more += "; calibrated: on TRAK's group effects and 245 more"
    if any("integrated" in method for method in methods):
        more += f"; integrated: on {found['subsets'] // 2:,} more, on a quarter of the data"
    if "DMM, both" in methods:
        more += "; both: on all of these"
    lines = [
        f"KLoM ({found['estimator']}, {found['models']} models and oracles): normalised on the rows to forget (0 the floor, 1 doing nothing), and the",
        "95th percentiles on forget / retain / validation; the share of a retraining that the fine-tuning costs (attribution apart:",
        f"{rests}{more}). Of several settings the one whose worst split is best, chosen on these outcomes."
        + (
            f" {top:.2f} is the most that KLoM can be here: beyond it nothing is told apart."
            if np.isfinite(top)
            else ""
        ),
        "",
        "| | " + " | ".join(f"{name}: {one['rows']} rows" for name, one in sets.items()) + " |",
        "|---" * (len(sets) + 1) + "|",
        "| floor | " + " | ".join(f"{one['floor']:.2f}" for one in sets.values()) + " |",
    ]
    for method in methods:
        cells = [cell(one["methods"][method]) if method in one["methods"] else "" for one in sets.values()]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(row: dict) -> str:
    """One method on one set."""
    p95 = " / ".join(f"{row['splits'][split][1]:.2f}" for split in ("forget", "retain", "validation"))
    norm = "" if row["normalised"] is None else f"**{row['normalised']:.2f}** "
    lost = f", {row['diverged']} diverged" if row["diverged"] else ""
    return f"{norm}({p95}), {row['share']:.1%}{lost}"


def told(name: str, one: dict, method: str, seconds: float) -> None:
    """A method on a forget set, as a line."""
    row = one["methods"][method]
    p95 = " ".join(f"{row['splits'][split][1]:.2f}" for split in ("forget", "retain", "validation"))
    norm = "-" if row["normalised"] is None else f"{row['normalised']:.2f}"
    print(
        f"{name:16s} floor {one['floor']:.2f}  {method:20s} normalised {norm:>5s}  p95 {p95}  {row['share']:6.1%}  "
        f"{row['settings']} ({seconds:.0f} s)",
        flush=True,
    )


if __name__ == "__main__":
    main()
