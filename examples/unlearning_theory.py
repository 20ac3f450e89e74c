"""Why unlearning by matching works where descent does not, in ridge regression: a figure and its numbers.

    python examples/unlearning_theory.py --out unlearning_theory.png

100 rows in 400 columns, 5 of them to be forgotten. Full and retrained parameters differ almost wholly outside the
span of the retained rows, where only the penalty moves a descent on them. Matching the retrained model's outputs on
all rows, the forgotten ones among them, puts curvature there, and since every row's target is fitted at the end,
one row a step is no noisier there than all. What is to be matched must be predicted: the effect of a group is one
small solve, and no sum over its rows.

Expect, with a penalty of 4, relative errors after 50 steps of 0.64 (descent), 1e-6 (matching), 1.00 (matching on
retained rows); with 400 also descent arrives. One row a step, descent stays at a floor and matching does not.
"""

import argparse
import dataclasses
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from dataloupe._identity import Stream
from dataloupe.solve import Descent, RidgeUnlearning

PENALTIES = (4.0, 400.0)
INK, SOFT, RULE, ACCENT, WARM, LIGHT = "#17212b", "#55616d", "#dfe2e1", "#0b6a88", "#a94a12", "#d99a6c"
COLOURS = {
    "ascent and descent": INK,
    "descent on retained": WARM,
    "the same, steps that shrink": LIGHT,
    "matching on retained": SOFT,
    "matching on all": ACCENT,
}
BOTTOM, TOP = 1e-8, 1e3
TITLES = (
    ("All rows a step", "Distance to the retrained parameters:\nonly the penalty leads descent there"),
    ("One row a step", "The same, expected (bold) and of one run:\nmatching has no noise floor"),
    (
        "What a group of rows does",
        "Matching needs predicted outputs: a group\nis no sum of its rows, but one small solve",
    ),
)
PLACES = {
    (0, 0): {
        "ascent and descent": (0.34, 1e2, "left"),
        "matching on retained": (0.97, 4.0, "right"),
        "descent on retained": (0.97, 0.14, "right"),
        "matching on all": (0.60, 4e-3, "left"),
    },
    (1, 0): {
        "ascent and descent": (0.97, 1e2, "right"),
        "matching on retained": (0.97, 0.2, "right"),
        "descent on retained": (0.59, 8e-8, "left"),
        "matching on all": (0.60, 4e-3, "left"),
    },
    (0, 1): {
        "matching on retained": (0.97, 4.0, "right"),
        "descent on retained": (0.97, 0.14, "right"),
        "matching on all": (0.60, 4e-3, "left"),
    },
    (1, 1): {
        "descent on retained": (0.97, 8.0, "right"),
        "the same, steps that shrink": (0.97, 0.06, "right"),
        "matching on all": (0.60, 4e-3, "left"),
    },
}
"""Names of lines: share of the width, height, and on which side of it they stand."""
WAYS = {"sum of influences": SOFT, "sum of leave-one-outs": WARM, "the group": ACCENT}


@dataclasses.dataclass(frozen=True)
class Size:
    """Rows, columns, steps on all rows, steps of one row, and draws of the problem behind every bar."""

    rows: int = 100
    columns: int = 400
    steps: int = 50
    single: int = 4000
    seeds: int = 5

    @property
    def settings(self) -> dict[str, tuple[int, int, float]]:
        """What the bars show: rows in the cluster, rows to forget, penalty."""
        few, many = max(2, self.rows // 20), self.rows // 5
        return {
            f"{few} rows at random, penalty 4": (0, few, 4.0),
            f"{few} rows at random, penalty 400": (0, few, 400.0),
            f"a cluster of {many}, penalty 400": (many, many, 400.0),
            "half of that cluster, penalty 400": (many, many // 2, 400.0),
        }


def problem(size: Size, seed: int, cluster: int, forget: int, penalty: float) -> RidgeUnlearning:
    """Isotropic rows, the first ones perhaps a cluster; labels with noise of variance 4."""
    draw = np.random.default_rng(seed).standard_normal
    x, truth = draw((size.rows, size.columns)), draw(size.columns)
    if cluster:
        x[:cluster] = draw(size.columns) + 0.3 * draw((cluster, size.columns))
    return RidgeUnlearning.of(x, x @ truth + 2.0 * draw(size.rows), np.arange(forget), penalty)


def together(one: RidgeUnlearning, steps: int) -> dict[str, np.ndarray]:
    """R(theta_t), all rows a step: every descent with its best constant step, the ascent with the descent's."""
    descent, kept = one.descent(), one.matching(one.retain)
    downs = {
        "ascent and descent": (one.ascent(), descent.best_step),
        "descent on retained": (descent, descent.best_step),
        "matching on retained": (kept, kept.best_step),
        "matching on all": (one.matching(), one.matching().best_step),
    }
    return {name: down.relative(down.iterates(eta, steps)) for name, (down, eta) in downs.items()}


def single(one: RidgeUnlearning, steps: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The exact root of E R(theta_t)^2, one row a step, and R of one run."""
    largest, descent = (one.x**2).sum(axis=1).max(), one.descent()
    constant = np.full(steps, 0.5 / largest)
    shrinking = constant / (1.0 + np.arange(steps) / len(one.x))
    downs = {
        "descent on retained": (descent, constant),
        "the same, steps that shrink": (descent, shrinking),
        "matching on retained": (one.matching(one.retain), constant),
        "matching on all": (one.matching(), constant),
    }
    return {name: _expected(down, etas) for name, (down, etas) in downs.items()}


def _expected(down: Descent, etas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sizes = down.expected(etas)
    return np.sqrt(sizes / sizes[0]), down.relative(down.sampled(etas, Stream.root(0)))


def bars(size: Size) -> dict[str, np.ndarray]:
    """Relative error of the predicted effect on the forgotten rows: setting -> one number a way, medians."""
    found = {}
    for name, setting in size.settings.items():
        errors = []
        for seed in range(size.seeds):
            one = problem(size, seed, *setting)
            rows = one.x[one.forget]
            truth, effect = rows @ (one.full - one.oracle), one.effects(rows)
            said = (effect.influences, effect.left_out, effect.group)
            errors.append([np.linalg.norm(each - truth) / np.linalg.norm(truth) for each in said])
        found[name] = np.median(errors, axis=0)
    return found


def main(out: Path | str = "unlearning_theory.png", size: Size | None = None) -> None:
    size = size or Size()
    _, few, _ = next(iter(size.settings.values()))
    problems = [problem(size, 0, 0, few, penalty) for penalty in PENALTIES]
    every = [together(one, size.steps) for one in problems]
    alone = [single(one, size.single) for one in problems]
    effects = bars(size)
    tell(size, problems, every, alone, effects)
    draw(Path(out), every, alone, effects)
    print(f"\n{out}")


def tell(size, problems, every, alone, effects) -> None:
    for one in problems:
        share = one.span()
        print(
            f"penalty {one.penalty:g}: in the span of the retained rows lie {share.forgotten:.0%} of the forgotten "
            f"rows and {share.error:.1g} of what is to be unlearnt"
        )
    print(
        f"\nrelative error of theta     after {size.steps} steps on all rows   after {size.single} of one row"
    )
    print(f"{'':28}{'penalty 4':>12}{'400':>10}{'penalty 4':>16}{'400':>10}")
    for name in COLOURS:
        first = [f"{each[name][-1]:.1e}" if name in each else "" for each in every]
        last = [f"{each[name][0][-1]:.1e}" if name in each else "" for each in alone]
        print(f"{name:28}{first[0]:>12}{first[1]:>10}{last[0]:>16}{last[1]:>10}".rstrip())
    print("\nrelative error of the predicted effect: " + ", ".join(WAYS))
    for name, values in effects.items():
        print(f"{name:36}" + "".join(f"{value:>10.1e}" for value in values))


def draw(out: Path, every, alone, effects) -> None:
    mpl.use("Agg")
    style = {"font.size": 9, "axes.edgecolor": RULE, "axes.labelcolor": SOFT, "text.color": INK}
    ticks = {"xtick.color": SOFT, "ytick.color": SOFT, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context({**style, **ticks}):
        figure = plt.figure(figsize=(10, 5.4), dpi=130)
        grid = figure.add_gridspec(
            2,
            3,
            left=0.06,
            right=0.98,
            top=0.83,
            bottom=0.09,
            wspace=0.18,
            hspace=0.14,
            width_ratios=(1, 1, 0.9),
        )
        for row, penalty in enumerate(PENALTIES):
            for column, found in enumerate((every, alone)):
                axes = figure.add_subplot(grid[row, column])
                _paths(axes, found[row], PLACES[row, column])
                axes.set_title(f"penalty {penalty:g}", loc="left", y=0.03, x=0.03, fontsize=9, color=SOFT)
                axes.tick_params(labelbottom=row == 1, labelleft=column == 0)
                if row == 1:
                    axes.set_xlabel(("steps on all rows", "steps of one row")[column])
        axes = figure.add_subplot(grid[:, 2])
        _bars(axes, effects)
        for column, (title, below) in enumerate(TITLES):
            place = grid[0, column].get_position(figure)
            figure.text(place.x0, 0.93, title, fontsize=10.5, weight="bold")
            figure.text(place.x0, 0.855, below, fontsize=8.5, color=SOFT, linespacing=1.3)
        figure.savefig(out)
        plt.close(figure)


def _paths(axes, paths, places) -> None:
    """Lines with their names beside them: where is (share of the width, height on the axis)."""
    for name, found in paths.items():
        line, run = found if isinstance(found, tuple) else (found, None)
        axes.semilogy(np.where(line < TOP, line, np.nan), color=COLOURS[name], lw=2)
        if run is not None:
            axes.semilogy(run, color=COLOURS[name], lw=0.6, alpha=0.4)
        if name in places:
            across, up, side = places[name]
            axes.text(
                across * (len(line) - 1), up, name, color=COLOURS[name], fontsize=8.5, ha=side, va="center"
            )
    axes.set_xlim(0, len(line) - 1)
    axes.set_ylim(BOTTOM, TOP)
    axes.grid(axis="y", color=RULE, lw=0.6)
    axes.tick_params(which="both", length=0)


def _bars(axes, effects) -> None:
    for row, values in enumerate(effects.values()):
        for k, (value, (way, colour)) in enumerate(zip(values, WAYS.items(), strict=True)):
            at = row + (k - 1) * 0.23
            axes.barh(at, value, 0.2, color=colour)
            said = f"{value:.2f}" if value > 5e-3 else f"{value:.0e}"
            axes.text(
                value + 0.015,
                at,
                f"{way}  {said}" if row == 1 else said,
                color=colour,
                fontsize=8.5,
                va="center",
            )
        axes.text(0, row - 0.42, list(effects)[row], fontsize=9, va="center")
    axes.set_xlim(0, 1.12)
    axes.set_ylim(len(effects) - 0.55, -0.6)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1])
    axes.set_xlabel("relative error on the forgotten rows")
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("unlearning_theory.png"), help="where the figure goes"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main(asked().out)
