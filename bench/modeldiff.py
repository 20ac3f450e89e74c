"""The case studies of `dataloupe.compare` (examples/diff_*.py), and their figures in one table: `make examples`.

    python bench/modeldiff.py [--only diff_patch ...] [--lab FOLDER]

Each example runs as it stands, in a fresh folder unless one is given; seconds are of this machine, for orientation.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from dataloupe.run import load_module

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
RESULTS = HERE / "results" / "modeldiff.json"
STUDIES = ("diff_augmentation", "diff_patch", "diff_noise", "diff_pretrained", "diff_same")
HEAD = (
    "study",
    "mean cosine",
    "p of it",
    "found",
    "value / limit",
    "ratio",
    "p",
    "stability",
    "precision at 50",
    "effects",
    "s",
)


def run(name: str, folder: str) -> dict:
    """The figures of a study, and what it took."""
    print(f"--- {name}", flush=True)
    start = time.perf_counter()
    found = load_module(EXAMPLES / f"{name}.py").main(f"{folder}/{name}")
    return {"seconds": round(time.perf_counter() - start), "comparisons": found}


def rows(results: dict) -> list[tuple[str, ...]]:
    """One a comparison: of both first directions the one that is kept, or more apart from chance."""
    return [
        (f"{study}: {name}", *_cells(facts), str(of_study["seconds"]) if not i else "")
        for study, of_study in results.items()
        for i, (name, facts) in enumerate(of_study["comparisons"].items())
    ]


def _cells(facts: dict) -> tuple[str, ...]:
    firsts = [one for one in facts["directions"] if one["component"] == 0]
    first = min(firsts, key=lambda one: (not one["kept"], one["p"], -one["value"]))
    effects = {}
    for name, strength, mean, (low, high) in facts.get("effects", ()):
        effects[name] = f"{name} {mean:+.3f} [{low:+.3f}, {high:+.3f}] at {strength:g}"
    return (
        f"{facts['cosine']:.2f}",
        f"{facts['apart']:.2g}",
        str(facts["found"]),
        f"{first['value']:.3f} / {facts['limit']:.3f} ({first['of']})",
        f"{first['ratio']:.1f}",
        f"{first['p']:.2g}",
        f"{first['stability']:.2f}",
        f"{facts['precision_at_50']:.2f}" if "precision_at_50" in facts else "",
        "; ".join(effects.values()) + (f": {facts['verdict']}" if effects else ""),
    )


def table(results: dict) -> str:
    """The table as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--only", nargs="+", choices=STUDIES, default=STUDIES)
    arguments.add_argument("--lab", help="keep models and features there")
    arguments.add_argument("--json", type=Path, default=RESULTS)
    given = arguments.parse_args()
    results = json.loads(given.json.read_text()) if given.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            results[name] = run(name, given.lab or folder)
    results = {name: results[name] for name in STUDIES if name in results}
    given.json.write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    given.json.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
