"""Every bench into one table: `make bench` (quick, minutes) or `make bench-full` (all of them, hours).

    python bench/run.py [--full] [--known]

Writes bench/results/<name>.json and bench/results/table.md. Ratios are medians of pairs measured in one run; times
are of this machine, given for orientation and never as a claim.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from rows import of_results

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FULL = {
    f"{name}.py": f"{name}.json"
    for name in (
        "support", "leaks", "mislabels", "direction", "linearity", "transfer", "sparse_pca", "frontier", "featurise",
        "language", "within_a_run", "compare",
    )
}  # fmt: skip
"""Benches of the full tier; the quick one reads their last results."""


def tree_memory(root: int) -> float:
    """Memory of a process and all below it in GB: proportional set size, so that shared pages count once."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    total = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024**2


def demo() -> None:
    """The demo as a user starts it: wall time and memory of the whole process tree."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("dataloupe")),
            "demo",
            "--folder",
            f"{folder}/demo",
            "--json",
        ]
        start, peak = time.perf_counter(), 0.0
        with (RESULTS / "demo.json").open("w") as out:
            process = subprocess.Popen(command, stdout=out)
            while process.poll() is None:
                peak = max(peak, tree_memory(process.pid))
                time.sleep(0.25)
        seconds = time.perf_counter() - start
    if process.returncode not in (0, 1):
        raise SystemExit(f"the demo ended with {process.returncode}")
    facts = json.loads((RESULTS / "demo.json").read_text())
    small = {
        "judged": [{k: v for k, v in score.items() if k != "per_target"} for score in facts["judged"]],
        "what_if": facts["what_if"],
        "seconds": seconds,
        "peak_gb": peak,
    }
    (RESULTS / "demo.json").write_text(json.dumps(small, indent=1) + "\n")


def demo_rows() -> list[tuple[str, str, str]]:
    """What the demo took and found."""
    facts = json.loads((RESULTS / "demo.json").read_text())
    rows = [
        ("demo, wall time", f"{facts['seconds']:.0f} s", "< 90 s"),
        ("demo, peak memory of all processes", f"{facts['peak_gb']:.2f} GB", "< 1.5 GB"),
    ]
    for score in facts["judged"]:
        rows.append((f"demo, digits: {score['method']}", _lds(score), "printed"))
        rows += [
            (f"demo, digits: control {n}", f"{c['value']:.3f}", "printed")
            for n, c in score["controls"].items()
        ]
    asked = facts["what_if"]
    told = f"predicted {asked['predicted']:.2f}, verified {asked['verified']:.2f}: {asked['verdict']}"
    return list(dict.fromkeys([*rows, ("demo, what-if", told, "verified")]))


def engine() -> list[tuple[str, str, str]]:
    """Training throughput beside a plain loop; bookkeeping."""
    small, wide, cnn, books = json.loads((RESULTS / "engine.json").read_text())
    return [
        ("64-32-10 MLP, model-steps/s on one core", f"{small['ours model-steps/s']:,.0f}", ">= 10,000"),
        ("64-32-10 MLP, ratio to a plain PyTorch loop", f"{small['ratio']:.1f}x", ">= 8x"),
        ("784-128-10 MLP, ratio to a plain PyTorch loop", f"{wide['ratio']:.2f}x", ">= 1.3x"),
        (f"small CNN, {cnn['chosen']} on one core, ratio to a plain loop", f"{cnn['ratio']:.2f}x", ">= 1x"),
        (
            f"small CNN, chosen back end on {cnn['cores']} cores, ratio to a plain loop there",
            f"{cnn['ratio on all cores']:.2f}x",
            ">= 1x",
        ),
        ("store and bookkeeping, share of training time", f"{books['share']:.1%}", "< 2 %"),
    ]


def judges() -> list[tuple[str, str, str]]:
    """LDS and bootstrap at 1,000 subsets x 1,000 targets x 5,000 examples."""
    rows = []
    for row in json.loads((RESULTS / "judge.json").read_text()):
        measured = f"{row['seconds']:.2f} s" if "seconds" in row else f"{row['ratio']:.1f}x"
        rows.append((f"judge: {row['what']}", measured, f"< {row['bar']:.0f} s" if "bar" in row else ""))
    return rows


FASHION_BARS = {
    "TRAK, 1 half-data model": ">= .44 of the ceiling",
    "TRAK, 5 half-data models": ">= .58 of the ceiling",
    "TRAK, 10 half-data models": ">= .62 of the ceiling, aim .70",
}


def fashion_rows() -> list[tuple[str, str, str]]:
    """The rows of fashion-5k from the last full run."""
    known = RESULTS / "fashion-5k.json"
    rows = json.loads(known.read_text()) if known.exists() else {}
    return [
        (f"fashion-5k, LDS of {name}", f"{_lds(row)}{_slope(row)}", FASHION_BARS.get(name, "printed"))
        for name, row in rows.items()
    ]


def peers(folder: str, wanted: str) -> str:
    """The Python of an environment with what a file of bench/peers names, made the first time."""
    python = HERE.parent / folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        file = str(HERE / "peers" / wanted)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", "-r", file], check=True)
    return str(python)


def lasso() -> None:
    """The lasso beside its peers."""
    command = [sys.executable, str(HERE / "lasso.py"), "--peers", peers(".venv-peers", "requirements.txt")]
    subprocess.run([*command, "--json", str(RESULTS / "lasso.json")], check=True)


def _slope(row: dict) -> str:
    """Slopes of truth on prediction, before and after calibration."""
    if "slope" not in row:
        return ""
    share = row["value"] / row["ceiling"]
    return f", {share:.2f} of it; slope {row['slope']:.3g}, calibrated {row['calibrated_slope']:.2f}"


def attribution_peers() -> None:
    """TRAK and EK-FAC beside theirs."""
    python = peers(".venv-peers-attribution", "attribution.txt")
    subprocess.run([sys.executable, str(HERE / "attribution_peers.py"), "--peers", python], check=True)


def _lds(row: dict) -> str:
    low, high = row["interval"]
    ceiling = "" if row["ceiling"] is None else f", ceiling {row['ceiling']:.3f}"
    return f"{row['value']:.3f} [{low:.3f}, {high:.3f}]{ceiling}"


def _run(script: str, result: str) -> None:
    subprocess.run([sys.executable, str(HERE / script), "--json", str(RESULTS / result)], check=True)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--full", action="store_true", help="the full tier, too")
    arguments.add_argument("--known", action="store_true", help="run nothing: the table of what is known")
    asked = arguments.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if not asked.known:
        lasso()
        demo()
        _run("engine.py", "engine.json")
        _run("judge.py", "judge.json")
    if asked.full:
        for script, result in FULL.items():
            _run(script, result)
        _run("fashion.py", "fashion-5k.json")
        attribution_peers()
    rows = demo_rows() + engine() + judges() + fashion_rows() + of_results()
    machine = f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, Python {platform.python_version()}"
    lines = [
        f"Written {datetime.date.today()} on {machine}: `make bench`, and the full tier as it ran last.",
        "",
        "| what | measured | bar |",
        "|---|---|---|",
    ]
    lines += [f"| {what} | {measured} | {bar} |" for what, measured, bar in rows]
    (RESULTS / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
