"""The audit: are the numbers right at every door, or refused by name? One table of what is measured, its bar, and the figure.

    python bench/audit.py [--quick] [--only zoo guards ...] [--json bench/results/audit.json]

Each part is a file of its own (``audit_NAME.py``) and runs by itself, too. Beside the JSON file a table is written (``.md``), with
what an audit found before the doors were closed (November 2026).
"""

import argparse
import datetime
import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch

BEFORE = {
    "gradients of": "mixtures of experts wrong by up to 62 % where rows are sorted; packed and graph layers wrong or raw",
    "TRAK: 95 % interval holds, random": "0.91",
    "TRAK: 95 % interval holds, top": "0.90 up to 4 %, 0.17 at 10 %",
    "Datamodel: 95 % interval holds, random": "0.89 up to 4 %, 0.29 at 10 %",
    "Datamodel: 95 % interval holds, top": "0.03 up to 4 %, 0.00 at 10 %",
    "all scores 0: verdicts": "agree 0.94 for rows at random, 0.00 for top rows",
    "shuffled: verdicts": "agree 0.90 for rows at random, 0.00 for top rows",
    "sign flipped: verdicts": "agree 0.79 for rows at random, 0.00 for top rows",
    "x3: verdicts": "agree 0.95 for rows at random, 1.00 for top rows",
    "random, calibrated: verdicts": "agree 0.94 for rows at random, 0.00 for top rows",
    "TRAK: verdicts, top": "agree 0.81",
    "95 % interval of small digits, LDS": "0.56 at k=10, m=100, r=2",
    "plausible at public functions": "of 2,087: 1,024 clear, 556 raw, 507 taken",
    "labs of 4 threads": "6 of 10 rounds wrong",
}
"""What the audit found, by a part of what is measured."""

PARTS = tuple(sorted(path.stem.removeprefix("audit_") for path in Path(__file__).parent.glob("audit_*.py")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts: dict[str, Any] = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    for part in given.only:
        rows = importlib.import_module(f"audit_{part}").measure(quick=given.quick)
        table = [{"measured": what, "bar": bar, "figure": figure} for what, bar, figure in rows]
        parts[part] = {"date": f"{datetime.date.today()}", "quick": given.quick, "rows": table}
        for row in table:
            print(f"{part:10s} | {row['measured']} | {row['bar']} | {row['figure']}", flush=True)
        if given.json:  # parts that were measured before stay
            given.json.write_text(json.dumps(dict(sorted(parts.items())), indent=1) + "\n")
            given.json.with_suffix(".md").write_text(page(dict(sorted(parts.items()))))


def page(parts: dict[str, Any]) -> str:
    """The parts as a table."""
    lines = ["| part | measured | bar | before | now |", "|---|---|---|---|---|"]
    for name, part in parts.items():
        for row in part["rows"]:
            before = next((was for start, was in BEFORE.items() if start in row["measured"]), "")
            shown = f"{name}, {part['date']}" + ", quick" * part["quick"]
            lines.append(f"| {shown} | {row['measured']} | {row['bar']} | {before} | {row['figure']} |")
    return "\n".join(["`python bench/audit.py --json bench/results/audit.json`", "", *lines, ""])


if __name__ == "__main__":
    main()
