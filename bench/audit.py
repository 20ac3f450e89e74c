"""The audit: are the numbers right at every door, or refused by name? One table of what is measured, its bar, and the figure.

    python bench/audit.py [--quick] [--only zoo guards ...] [--json bench/results/audit.json]

Each part is a file of its own (``audit_NAME.py``) and runs by itself, too.
"""

import argparse
import datetime
import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch

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


if __name__ == "__main__":
    main()
