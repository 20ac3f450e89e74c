"""Principal directions of the digits' scores, tested by retraining: the aligned targets part, the whole hardly moves.

    python bench/direction.py [--json FILE] [--lab FOLDER]

TRAK of 10 models on the digits example; for the first three directions, 70 of 1,437 training rows at either end and as
many at random are removed, in 6 seeds each; the 10 targets at either end and all 100 are looked at.
"""

import argparse
import json
import tempfile
from pathlib import Path

import dataloupe as dl
from dataloupe.run import load_module

HERE = Path(__file__).parent


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--json", type=Path, default=HERE / "results" / "direction.json")
    arguments.add_argument("--lab", type=Path, help="keep the models' outputs there")
    arguments.add_argument("--workers", type=int)
    given = arguments.parse_args()
    question = load_module(HERE.parent / "examples" / "digits.py").question
    with tempfile.TemporaryDirectory() as folder:
        lab = dl.Lab(given.lab or folder, workers=given.workers, progress=False)
        trak = dl.TRAK(models=10).attribute(question, lab)
        space = dl.principal(trak, components=3)
        print(space)
        found = [
            dl.removal_of_direction(question, lab, trak, (space, c), k=70, group=10, verify=6)
            for c in range(3)
        ]
    for removal in found:
        print(removal)
    facts = {
        "explained": space.explained.tolist(),
        "effective_dimension": space.effective_dimension,
        "directions": [removal.to_json() for removal in found],
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
