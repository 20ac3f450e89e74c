"""``groups``: which classes or sources raise the outputs, from retrainings without some of them."""

import dataclasses
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.markup import escape
from rich.table import Table

from dataloupe._errors import BadInput
from dataloupe._typing import Array
from dataloupe.apps import (
    GroupInfluences,
    detectable,
    group_influences,
    group_subsets,
    pool_targets,
    sigma_of,
)
from dataloupe.cli._base import Asking, Number, Out, Result, Text, quoted
from dataloupe.cli._uses import keep_use
from dataloupe.core import Examples, Outcomes, Question, Subsets, raises_output

Kind = Literal["fixed", "independent"]
Estimator = Literal["means", "regression"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups(Asking):
    """Train with and without whole groups, and say what each does to the outputs, by class of the targets.

    dataloupe groups transfer.py:question --by label --models 200 --lab runs/transfer

    With a fixed number of groups kept, an influence is against the average other group; with groups kept
    independently, it is the group's own.
    """

    by: Text = "label"
    """what makes a group: label, or a column of the training examples' meta"""
    models: Number = 200
    """how many models to train, each on its own choice of groups"""
    fraction: float = 0.5
    """the share of the groups each keeps"""
    kind: Annotated[Kind, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = "fixed"
    """how groups are kept: a fixed number of them (fixed), or each by itself (independent)"""
    estimator: Annotated[Estimator, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = "means"
    """difference of means (means), or least squares on all memberships (regression)"""
    seed: Number = 0
    """of the choices of groups"""

    def run(self, out: Out) -> Result:
        """Retrain on groups, average the targets, take the means apart."""
        question, lab = self.open()
        groups, names = groups_of(question.train, self.by)
        subsets = self._subsets(question, groups)

        def influences(pooled: Outcomes) -> GroupInfluences:
            return group_influences(pooled, groups, names=names, estimator=self.estimator)

        nothing = np.zeros((subsets.count, 1))
        influences(Outcomes.from_arrays(subsets.masks(), nothing))  # refuses what these subsets cannot tell
        with out.step(f"{self.models} models, each without some of {len(np.unique(groups))} groups"):
            outcomes = lab.outcomes(question, subsets)

        mean = pool_targets(outcomes)
        overall, classes = influences(mean), target_classes(question)
        keep_use(lab, question, overall)
        out.say(_overall_table(overall, question.output.name))
        facts = {"by": self.by, "kind": self.kind, "models": self.models, "overall": overall.to_json()}
        if classes is not None:
            by_class = influences(pool_targets(outcomes, classes))
            called = [question.targets.names[c] if question.targets.names else c for c in np.unique(classes)]
            out.say(_class_table(by_class, [str(name) for name in called]))
            facts |= {"targets": [str(name) for name in called], "by_class": by_class.to_json()}
        sigma = float(sigma_of(mean).value[0])
        if sigma > 0:
            facts["detectable"] = least = detectable(
                self.models, sigma, fraction=float(overall.kept.mean()), comparisons=len(overall.groups)
            )
            out.say(f"  [dim]so many models find a mean influence of {least:.2g} with a power of 80%[/]")
        out.say(f"  [dim]in colour: stands out at a false discovery rate of {overall.discovery:.0%}[/]")
        for note in overall.notes:
            out.say(f"  [yellow]note[/] {escape(note)}")
        return Result(facts)

    def _subsets(self, question: Question, groups: Array) -> Subsets:
        if self.kind == "independent":
            return group_subsets(groups, self.models, fraction=self.fraction, seed=self.seed)
        return Subsets(question.n, self.models, self.fraction, kind="groups", seed=self.seed, groups=groups)


def groups_of(train: Examples, by: str) -> tuple[Array, dict[int, str]]:
    """The group of every example, as sorted numbers, and what they are called.

    Raises ``BadInput`` dl-767 if there is no such column, dl-760 if there is one group only.
    """
    labelled = train.labels is not None and train.labels.ndim == 1 and not train.labels.is_floating_point()
    if by in train.meta:
        column = np.asarray(train.meta[by])
        named = {value: str(value) for value in column.tolist()}
    elif by == "label" and labelled:
        column = train.labels.numpy()
        named = {
            c: str(c) if train.names is None else str(train.names[c]) for c in np.unique(column).tolist()
        }
    else:
        known = [*(["label"] if labelled else []), *train.meta]
        raise BadInput(
            "dl-767",
            asked=f"groups by {by}",
            found=f"training examples with {', '.join(known) or 'neither whole-number labels nor meta'}",
            do=f"use {quoted('--by', known[0])}" if known else 'give Examples(..., meta={"source": [...]})',
        )
    values, member = np.unique(column, return_inverse=True)
    if len(values) < 2:
        raise BadInput(
            "dl-760",
            asked=f"groups by {by}",
            found="the same for every example",
            do="group by something that differs",
        )
    return member, {i: named[value] for i, value in enumerate(values.tolist())}


def target_classes(question: Question) -> Array | None:
    """The class of every target row, if targets have classes and more than one."""
    labels = question.targets.labels
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        return None
    classes = labels.numpy()[question.index[:, 0]]
    return classes if len(np.unique(classes)) > 1 else None


def _overall_table(found: GroupInfluences, output: str) -> Table:
    """A line a group, what raises the output most first."""
    sizes = np.bincount(found.member)
    title = f"influence on the mean {output}, from {found.subsets} models"
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    table.add_column("group")
    for column in ("examples", "influence", f"{found.level:.0%}", "q"):
        table.add_column(column, justify="right", no_wrap=True)
    for g in np.argsort(-found.influence[0], kind="stable"):
        table.add_row(
            escape(found.groups[g]),
            f"{sizes[g]:,}",
            f"{found.influence[0, g]:+.3g}",
            f"\\[{found.low[0, g]:+.2g}, {found.high[0, g]:+.2g}]",
            f"{found.q[0, g]:.2g}",
            style=_style(found, 0, int(g)),
        )
    return table


def _class_table(found: GroupInfluences, targets: list[str]) -> Table:
    """Groups down, target classes across; bright where it stands out."""
    table = Table(box=None, padding=(0, 1, 0, 0), title="by class of the targets", title_justify="left")
    table.add_column("group")
    for name in targets:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for g, name in enumerate(found.groups):
        cells = [
            f"[{_style(found, j, g)}]{found.influence[j, g]:+.2g}[/]" for j in range(len(found.influence))
        ]
        table.add_row(escape(name), *cells)
    return table


def _style(found: GroupInfluences, row: int, group: int) -> str:
    """Green for a group that helps (of an output of no direction: raises it), red for the others; dim if it may be nothing."""
    if not found.found[row, group]:
        return "dim"
    raises = found.influence[row, group] > 0
    return "bold green" if raises == raises_output("helps", found.provenance.get("better")) else "bold red"
