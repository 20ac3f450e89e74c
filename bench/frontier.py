"""LDS against the number of trained models: datamodels alone, TRAK alone, and a datamodel with TRAK as its prior.

    python bench/frontier.py --lab runs/frontier                        # trains all of it
    python bench/frontier.py --lab runs/frontier --digits 4096 --fashion 0
    python bench/frontier.py --lab runs/frontier --fresh                # retrains the truth, too, and writes it

digits: MLP 64-32-10, 1,437 images, 360 targets; truth 256 subsets x 10 seeds. fashion-5k: MLP 784-128-10, 5,000
images, 500 targets; truth 100 subsets x 5 seeds. All subsets keep half. TRAK's ridge is the one that predicts the
first 256 retrainings of the datamodel best: the truth chooses nothing. The count of models includes the prior's.
Writes bench/results/frontier.json and frontier.png.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

import dataloupe as dl
from dataloupe._identity import identity
from dataloupe.run import load_module

HERE = Path(__file__).parent
TRUTH = 11
"""Seed of the truth's subsets. The form of the prior was chosen on others (seed 1), which nothing here reads."""
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
RIDGE, LASSO = "datamodel (ridge)", "datamodel (lasso)"
BOTH, MANY = "datamodel (lasso), TRAK of 10 models as the prior", "the same, TRAK of 50 models"
LINES = {RIDGE: "#9aa0a8", LASSO: "#4b5563", BOTH: "#c2410c", MANY: "#1d4ed8"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One question, its truth (``pair`` seeds are averaged into one to keep the file small), and what is drawn."""

    name: str
    title: str
    question: dl.Question
    truth: dl.Subsets
    repeats: int
    pair: int
    dim: int
    counts: tuple[int, ...]

    @property
    def file(self) -> Path:
        """Where the truth is committed."""
        return HERE / "results" / f"{self.name}-truth.npz"

    @property
    def made_by(self) -> str:
        """What the committed truth is the truth of."""
        return identity([self.question, self.truth, self.repeats, self.pair])

    def measure(self, lab: dl.Lab, *, fresh: bool) -> dl.Outcomes:
        """The truth: retrained and written, or read and checked against the question that made it."""
        if fresh:
            values = lab.outcomes(self.question, self.truth, repeats=self.repeats).values
            values = values.reshape(len(values), -1, self.pair, values.shape[2]).mean(axis=2)
            np.savez_compressed(self.file, values=values.astype(np.float16), made_by=self.made_by)
        with np.load(self.file) as known:
            if str(known["made_by"]) != self.made_by:
                raise SystemExit(
                    f"{self.file} holds the truth of another question or other subsets: use --fresh"
                )
            values = known["values"].astype(np.float32)
        return dl.Outcomes(self.truth, values, np.zeros(values.shape[:2], dtype=np.uint8))


def cases(digits: int, fashion: int) -> list[Case]:
    """The two questions, up to so many models each."""
    examples = HERE.parent / "examples"
    doubled = tuple(2**i for i in range(7, 20))
    found = []
    if digits:
        question = load_module(examples / "digits.py").question
        question = dataclasses.replace(question, targets=dl.data.digits()[1])
        counts = (*(k for k in doubled if k < digits), digits)
        subsets = dl.Subsets(n=question.n, count=256, seed=TRUTH)
        found.append(Case("frontier-digits", "digits", question, subsets, 10, 2, 4096, counts))
    if fashion:
        question = load_module(examples / "fashion_mlp.py").question
        counts = (*(k for k in doubled[1:] if k < fashion), fashion)
        subsets = dl.Subsets(n=question.n, count=100, seed=TRUTH)
        found.append(Case("frontier-fashion", "fashion-5k", question, subsets, 5, 1, 2048, counts))
    return found


def trak(case: Case, lab: dl.Lab) -> dl.TRAK:
    """TRAK with the ridge that explains the datamodel's first 256 retrainings best."""
    seen = lab.outcomes(case.question, dl.Subsets(n=case.question.n, count=256))

    def explains(ridge: float) -> float:
        found = dl.TRAK(dim=case.dim, curved=True, ridge=ridge).attribute(case.question, lab)
        return dl.calibrate(found, seen, per_target=True).info.certificate["calibration_r2"]

    return dl.TRAK(dim=case.dim, curved=True, ridge=max(RIDGES, key=explains))


def run(case: Case, lab: dl.Lab, *, fresh: bool) -> dict[str, Any]:
    """Every point of every line."""
    truth, points = case.measure(lab, fresh=fresh), []

    def judge(line: str, method: dl.AbstractAttributor, models: int) -> None:
        start = time.perf_counter()
        found = method.attribute(case.question, lab)
        score = dl.lds(found, truth)
        points.append({"line": line, "models": models, "lds": score.value, "interval": score.interval})
        points[-1]["certificate"] = found.info.certificate
        print(
            f"{case.title:10s} {line:44s} {models:6d}  {score}   ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )

    ten = trak(case, lab)
    priors = {BOTH: ten, MANY: dataclasses.replace(ten, models=50)}
    for method in priors.values():
        judge(f"TRAK, {method.models} models", method, method.models)
    for k in case.counts:
        subsets = dl.Subsets(n=case.question.n, count=k)
        judge(RIDGE, dl.Datamodel(subsets), k)
        judge(LASSO, dl.Datamodel(subsets, estimator="lasso"), k)
        for line, method in priors.items():
            judge(line, dl.Datamodel(subsets, estimator="lasso", prior=method), k + method.models)
    top = dl.ceiling(truth)
    return {
        "title": f"{case.title}: {case.question.n:,} examples, {case.question.m} targets",
        "truth": f"{truth.subsets.count} subsets x {case.repeats} seeds",
        "ceiling": top.value,
        "ceiling_interval": top.interval,
        "ridge": ten.ridge,
        "points": points,
    }


def draw(found: dict[str, Any], file: Path) -> None:
    """A panel per question: lines with their intervals, TRAK alone as marks, the ceiling above."""
    mpl.use("Agg")
    mpl.rcParams["font.size"] = 9
    figure, axes = plt.subplots(
        1, len(found), figsize=(6.2 * len(found), 4.4), squeeze=False, layout="constrained"
    )
    for ax, case in zip(axes[0], found.values(), strict=True):
        ax.axhline(case["ceiling"], color="#111827", linewidth=1, linestyle=(0, (4, 3)))
        ax.annotate(
            f"noise ceiling {case['ceiling']:.2f}", (0.01, case["ceiling"]), xycoords=("axes fraction", "data"),
            xytext=(0, 4), textcoords="offset points",
        )  # fmt: skip
        for line, colour in LINES.items():
            points = [p for p in case["points"] if p["line"] == line]
            if not points:
                continue
            x, y = [p["models"] for p in points], [p["lds"] for p in points]
            low, high = ([p["interval"][side] for p in points] for side in (0, 1))
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            ax.plot(x, y, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=line)
        for p in (p for p in case["points"] if p["line"].startswith("TRAK")):
            ax.plot(p["models"], p["lds"], marker="D", color="#111827", markersize=5, linestyle="none")
            name = p["line"].removesuffix(" models")
            ax.annotate(
                name, (p["models"], p["lds"]), xytext=(0, -15), textcoords="offset points", ha="center"
            )
        ax.set(xscale="log", ylim=(0, 1), xlabel="models trained", ylabel="LDS", title=case["title"])
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)
    figure.savefig(file, dpi=150)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--lab", default="runs/frontier")
    arguments.add_argument("--digits", type=int, default=20480, help="models of digits at most (0: none)")
    arguments.add_argument("--fashion", type=int, default=8192, help="models of fashion-5k at most (0: none)")
    arguments.add_argument("--fresh", action="store_true", help="retrain the truth and write it")
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "frontier.json")
    given = arguments.parse_args()
    known = json.loads(given.json.read_text()) if given.json.exists() else {}
    for case in cases(given.digits, given.fashion):
        known[case.name] = run(case, dl.Lab(given.lab), fresh=given.fresh)
        given.json.write_text(json.dumps(known, indent=1) + "\n")
        draw(known, given.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
