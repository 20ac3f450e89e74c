"""``predict``: what would the outputs be after a training on this subset? Nothing is trained."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table

from dataloupe._errors import BadInput, CapabilityError
from dataloupe.cli._base import Asking, Number, Out, Result, Text, check_counts
from dataloupe.cli._folder import attributions, one
from dataloupe.core import DenseAttribution, Subsets, check_ids, needs_units

Rows = Annotated[tuple[int, ...], tyro.conf.arg(metavar="ROW ...")]
MaybeFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE.npy", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Asking):
    """Predict the outputs of models trained on any subset of the data, from an attribution of the lab.

    dataloupe predict fashion.py:question --lab runs/fashion --remove 3 14 15 --only datamodel
    """

    keep: Rows = ()
    """the training rows that the model sees"""
    remove: Rows = ()
    """or: those that it does not see"""
    masks: MaybeFile = None
    """or: boolean masks [subsets, examples] in a file; --json gives every prediction"""
    show: Number = 20
    """how many targets to print"""
    only: Text = ""
    """use the attribution whose method's name begins so"""

    def run(self, out: Out) -> Result:
        """Read an attribution, multiply."""
        question, lab = self.open()
        attribution = one(attributions(lab, question, self.only))
        needs_units(attribution, "the output after a training on a subset")
        if attribution.bias is None:
            raise CapabilityError(
                "dl-988",
                asked="outputs after a training on a subset",
                found=f"{attribution.info.method} without a bias, which predicts changes only",
                do="use a datamodel (--only datamodel), or what-if for a change",
            )
        check_counts(0, show=self.show)
        subsets = self._subsets(attribution.n)
        predicted = attribution.predict(subsets)
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in ("target", "label", *(f"subset {k}" for k in range(min(subsets.count, 6)))):
            table.add_column(column, justify="left" if column == "label" else "right")
        for j in range(min(self.show, attribution.m)):
            label = question.targets.label_name(int(question.index[j, 0]))
            table.add_row(str(j), str(label or ""), *(f"{v:+.3f}" for v in predicted[:6, j]))
        kept = ", ".join(f"{int(size):,}" for size in subsets.masks().sum(axis=1)[:6])
        out.say(table)
        out.say(
            f"[dim]{attribution.info.method}, {question.output.name}; {kept} of {question.n:,} examples kept[/]"
        )
        _say_where(out, attribution, subsets)
        return Result({"method": attribution.info.method, "predicted": predicted.tolist()})

    def _subsets(self, n: int) -> Subsets:
        if sum([bool(self.keep), bool(self.remove), self.masks is not None]) != 1:
            raise BadInput(
                "dl-989",
                asked="a prediction for a subset",
                found="none, or more than one way to name it",
                do="give one of --keep, --remove and --masks",
            )
        if self.masks is not None:
            try:
                masks = np.load(self.masks, allow_pickle=False)
            except (OSError, ValueError, EOFError, MemoryError) as error:
                raise _no_masks(self.masks, str(error)) from error
            if not isinstance(masks, np.ndarray):
                raise _no_masks(self.masks, "an archive of arrays")
            return Subsets.listed(masks)
        if self.remove:
            return Subsets.without(n, [self.remove])
        mask = np.zeros((1, n), dtype=bool)
        mask[0, check_ids(self.keep, n, "rows to keep")] = True
        return Subsets.listed(mask)


def _no_masks(file: Path, found: str) -> BadInput:
    return BadInput("dl-989", asked=f"masks of {file}", found=found, do="np.save a boolean array")


def _say_where(out: Out, attribution: DenseAttribution, subsets: Subsets) -> None:
    """Where the subset is far from where the models behind the attribution were trained."""
    seen, asked = attribution.info.fraction, float(subsets.masks().mean())
    if seen is not None and abs(seen - asked) > 0.1:
        out.say(
            f"  [yellow]note[/] linearised at {seen:.0%} of the data, asked at {asked:.0%}: levels may differ"
        )
