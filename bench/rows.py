"""Rows of the table from the results of the benches: (what, measured, bar).

python bench/rows.py > bench/results/datamodels.md
"""

import json
from pathlib import Path

Row = tuple[str, str, str]
RESULTS = Path(__file__).parent / "results"


def read(name: str):
    """A result, or None where its bench has not run."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def interval(low: float, high: float) -> str:
    return f"[{low:.2f}, {high:.2f}]"


def lasso(found: dict) -> list[Row]:
    """10,000 subsets x 5,000 examples x 1,000 targets x 30 penalties."""
    rows = [
        ("statistics, masks and outputs read once", f"{found['statistics s']:.1f} s", ""),
        ("whole path with selection", f"{found['whole path s']:.1f} s", "aim: 15 s"),
        ("lasso(): path until 5 steps after the best, refit on all", f"{found['lasso() s']:.1f} s", ""),
        ("largest duality gap, relative to the objective at 0", f"{found['largest gap']:.1e}", "<= 1e-4"),
        ("memory", f"{found['memory GB']:.2f} GB", "< 2 GB"),
    ]
    for name, bar in (("sklearn", ">= 20x"), ("celer", "> 1x"), ("skglm", "> 1x")):
        if f"{name} / whole path" in found:
            rows.append(
                (
                    f"{name} in one process / ours on {found['cores']} cores, the same path",
                    f"{found[f'{name} / whole path']:.0f}x",
                    bar,
                )
            )
    share = found["co-occurrences s"] / found["floor of the multiplier s"]
    rows.append(
        (
            "co-occurrences / AND, count and add of as many words in registers (the multiplier's floor)",
            f"{share:.2f}x",
            "<= 2x",
        )
    )
    product = found["float32 product s"] / found["co-occurrences s"]
    rows.append(("float32 product of the same masks / co-occurrences", f"{product:.1f}x", ""))
    return [(f"lasso: {what}", *rest) for what, *rest in rows]


def frontier(found: dict) -> list[Row]:
    """LDS against the number of models."""
    rows = []
    for facts in found.values():
        name = facts["title"].split(":")[0]
        for point in facts["points"]:
            share = point["lds"] / facts["ceiling"]
            what = f"{name}, {point['models']:,} models: {point['line']}"
            said = f"{point['lds']:.3f} {interval(*point['interval'])}, {share:.3f} of the ceiling"
            rows.append((what, said, _frontier_bar(name, point)))
    return rows


def _frontier_bar(name: str, point: dict) -> str:
    prior = "prior" in point["line"]
    if name == "digits" and 4_000 < point["models"] < 4_200 and prior:
        return ">= 0.90 of it"
    if name == "digits" and point["models"] > 20_000:
        return (
            ">= 0.95 of it" if prior else ">= 0.90 of it" if point["line"].startswith("datamodel (") else ""
        )
    return ""


def support(found: dict) -> list[Row]:
    """Removals predicted to flip a prediction that do."""
    rows = []
    for name, one in found.items():
        if isinstance(one, dict) and one.get("kind") == "remove" and "judged" in one:
            said = f"{one['flips']} of {one['judged']}, {one['share']:.2f} {interval(*one['interval'])}"
            bar = ">= 0.85" if name.startswith("datamodel") and name.endswith("1.2") else ""
            rows.append((f"support, flips that happen: {name}", said, bar))
    return rows


def leaks(found: list) -> list[Row]:
    """Planted near duplicates."""
    rows = []
    for one in found:
        if one["by"] in ("profile", "weight") and one["copies"] != "shift":
            pair, target = one["pair_auc"], one["target_auc"]
            said = f"pairs {pair[0]:.4f}, targets {target[0]:.3f} {interval(*target[1:])}"
            what = f"leaks, AUC, {one['copies']}: {one['method']}, {one['models']:,} models, {one['by']}"
            rows.append((what, said, "pairs >= .99" if one["method"] == "TRAK" else ""))
    return rows


def mislabels(found: dict) -> list[Row]:
    """Planted wrong labels."""
    return [
        (
            f"mislabels, {one['network']}: {one['way']}",
            f"AUC {one['auc']:.4f}, precision {one['precision']:.3f}",
            "printed",
        )
        for one in found["means"]
    ]


def featurise(found: dict) -> list[Row]:
    """Every example's gradient, in plain passes."""
    rows = []
    for name, one in found.items():
        cost = f"{one['FactoredSketch / plain']:.2f}x, floor {one['floor / plain']:.3f}x in operations"
        rows.append((f"{name}: sketched gradients / plain pass", cost, f"<= {one['bar']}x"))
        rows.append((f"{name}: factors alone / plain pass", f"{one['factors / plain']:.2f}x", ""))
        if "HashSketch / plain" in one:
            rows.append((f"{name}: HashSketch / plain pass", f"{one['HashSketch / plain']:.2f}x", ""))
        said = f"{one['memory / step']:.2f}x ({one['sketch MB']:.0f} of {one['step MB']:.0f} MB)"
        rows.append((f"{name}: peak memory without the store / a training step", said, "<= 1.3x"))
    return rows


def language(found: dict) -> list[Row]:
    """LDS of a language model's sequences on 100 subsets x 2 seeds."""
    rows = []
    for output, facts in found.items():
        top = facts["ceiling"]
        title = f"character language model, sequence {output}"
        rows.append((f"{title}: ceiling", f"{top['value']:.2f} {interval(*top['interval'])}", ""))
        rows += [
            (f"{title}, LDS of {name}", f"{one['value']:.3f} {interval(*one['interval'])}", "printed")
            for name, one in facts["methods"].items()
        ]
    return rows


def within_a_run(found: dict) -> list[Row]:
    """TRAK on several checkpoints of every run."""
    return [
        (
            f"fashion-5k, 5 runs on halves, TRAK on {name}",
            f"LDS {one['lds']:.3f}, {one['lds'] / one['of']:.2f} of the ceiling; slope {one['slope']:.2f}",
            "explored",
        )
        for name, one in found.items()
    ]


def compare(found: dict) -> list[Row]:
    """ModelDiff on planted attributions."""
    rows = []
    for size in sorted({one["size"] for one in found.get("planted", ())}):
        some = [one for one in found["planted"] if one["size"] == size]
        cosine = min(one["cosine with the truth"] for one in some)
        precision = min(one["precision at 50"] for one in some)
        kept = sum(one["kept of A"] == 1 and one["kept of B"] == 0 for one in some)
        rows.append(
            (
                f"planted direction of {size:g} of a row's length, noise of length 1, 10 models",
                f"cosine {cosine:.3f}, precision at 50 {precision:.2f}, kept alone in {kept} of {len(some)}",
                "> 0.95, >= 0.9" if size >= 0.3 else "printed",
            )
        )
    if same := found.get("same"):
        told = f"{same['runs with a direction']} of {same['runs']} runs report a direction; {same['seconds a run']:.1f} s a run"
        rows.append(("A/A: 500 x 5,000, 10 models each", told, "<= 5 of 100"))
    for name, one in found.get("large", {}).items():
        bar = "< 30 s, < 4 GB" if name == "without" else "< 300 s"
        rows.append(
            (
                f"2,000 x 50,000, 20 components, {name}",
                f"{one['seconds']:.1f} s, {one['peak GB']:.1f} GB",
                bar,
            )
        )
    return [(f"ModelDiff: {what}", *rest) for what, *rest in rows]


def modeldiff(found: dict) -> list[Row]:
    """The case studies: how many directions, how alike, and what the test said."""
    rows = []
    for study, told in found.items():
        for name, one in told["comparisons"].items():
            first = min(one["directions"], key=lambda d: (not d["kept"], d["p"]))
            words = f"{one['found']} direction{'s' if one['found'] != 1 else ''} kept, the first p {first['p']:.2g}, {first['ratio']:.1f} times the variance"
            if "precision_at_50" in one:
                words += f", precision at 50 {one['precision_at_50']:.2f}"
            if "verdict" in one:
                words += f"; counterfactual test: {one['verdict']}"
            bar = ">= 0.9; agree" if study == "diff_patch" else "0 kept" if study == "diff_same" else "shown"
            rows.append((f"case study {study.removeprefix('diff_')}, {name}", words, bar))
    return rows


def attribution_peers(found: dict) -> list[Row]:
    """Gradient features and scores beside the peers, the same checkpoints."""
    agree = min(value for name, value in found["parity"].items() if "scale" not in name)
    measured, bars = found["measured"], {"traker, batch": ">= 60x", "dattri, random mask": ">= 20x"}
    ours = measured["seconds"]["dataloupe"]
    rows = [("one script for traker on both libraries: correlation of scores", f"{agree:.7f}", "> 0.9999")]
    for name, seconds in measured["seconds"].items():
        what = f"fashion-5k, {measured['rows']:,} rows to d = {measured['dimensions']:,}: {name}"
        bar = next((bar for start, bar in bars.items() if name.startswith(start)), "")
        said = f"{seconds:.2f} CPU s" if name == "dataloupe" else f"{seconds / ours:.2f}x dataloupe's time"
        rows.append((what, said, bar))
    for name, one in found.get("lds", {}).items():
        said = f"{one['value']:.3f} {interval(*one['interval'])}, {one['value'] / one['ceiling']:.2f} of the ceiling"
        rows.append((f"fashion-5k, LDS: {name}", said, "printed"))
    return rows


def finalise(found: dict) -> list[Row]:
    """Scores from features on disk."""
    what = f"scores of {found['targets']:,} targets on {found['rows']:,} rows, {found['models']} models of {found['dim']:,} dimensions"
    said = f"{found['finalise s']:.0f} s, {found['peak GB']:.1f} GB; the products alone {found['products alone s']:.0f} s"
    return [(what, said, "<= 8 GB")]


PRINTERS = {
    "finalise": finalise,
    "lasso": lasso,
    "frontier": frontier,
    "support": support,
    "leaks": leaks,
    "mislabels": mislabels,
    "featurise": featurise,
    "language": language,
    "attribution_peers": attribution_peers,
    "within_a_run": within_a_run,
    "compare": compare,
    "modeldiff": modeldiff,
}


def of_results() -> list[Row]:
    """All rows of what has been measured."""
    return [
        row for name, rows in PRINTERS.items() if (found := read(name)) is not None for row in rows(found)
    ]


if __name__ == "__main__":
    print("| what | measured | bar |\n|---|---|---|")
    for row in of_results():
        print("| " + " | ".join(row) + " |")
