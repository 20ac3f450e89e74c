"""Which groups of examples (classes, sources) raise an output: means with and without, tested and adjusted."""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from dataloupe._errors import BadInput
from dataloupe._identity import Stream, identity
from dataloupe._typing import Array, Facts
from dataloupe.core import DenseAttribution, Info, Outcomes, Removal, Subsets, Uncertainty, checked, fitted_to
from dataloupe.solve import ridge

Estimator = Literal["means", "regression"]
RIDGE = 1e-6
"""Of the regression, relative: nearly none, since groups are few and an interval should not be biased."""

CONTRAST = (
    "every subset keeps the same number of groups, so each influence is against the average other group: "
    "a negative one says lower than with the others, not lower than without any"
)


@dataclasses.dataclass(frozen=True, eq=False)
class GroupInfluences:
    """What G groups do to m outputs, each ``[m, G]`` in units of the output: with the group minus without.

    ``influence`` with its standard ``error`` and interval ``low`` to ``high`` (each by itself, at ``level``);
    ``p`` two-sided, ``q`` adjusted over all m G of them (Benjamini and Hochberg), ``found`` where q is at most
    ``discovery``, the share of false ones to expect among the found. ``contrast`` says that every subset kept
    the same number of groups: then the influences of an output sum to 0, see :func:`group_influences`.
    ``kept [G]`` is the share of subsets with the group, ``member [n]`` the group number of every example. Groups stand in sorted order.
    """

    groups: tuple[str, ...]
    influence: Float[np.ndarray, "m G"]
    error: Float[np.ndarray, "m G"]
    low: Float[np.ndarray, "m G"]
    high: Float[np.ndarray, "m G"]
    p: Float[np.ndarray, "m G"]
    q: Float[np.ndarray, "m G"]
    kept: Float[np.ndarray, " G"]
    mean: Float[np.ndarray, " m"]
    member: Int[np.ndarray, " n"]
    subsets: int
    contrast: bool
    estimator: Estimator
    level: float
    discovery: float
    removal: Removal = "repack"
    notes: tuple[str, ...] = ()
    provenance: Facts = dataclasses.field(default_factory=dict)
    fitted: tuple[Facts, ...] = ()

    @property
    def found(self) -> Bool[np.ndarray, "m G"]:
        """Which of them stand out after the adjustment."""
        return self.q <= self.discovery

    def __str__(self) -> str:
        m, g = self.influence.shape
        said = (
            f"{g} groups x {m} outputs from {self.subsets} subsets: {int(self.found.sum())} of {m * g} "
            f"influences stand out (false discovery rate {self.discovery:.0%})"
        )
        if m > 1:
            return said
        order = np.argsort(-self.influence[0], kind="stable")
        wide = max(len(name) for name in self.groups)
        return "\n".join([said, *(f"  {self.groups[i]:{wide}s}  {self.text(0, int(i))}" for i in order)])

    def text(self, row: int, group: int) -> str:
        """One influence in words: value, interval, a star where it stands out."""
        value, low, high = (float(part[row, group]) for part in (self.influence, self.low, self.high))
        star = " *" if self.found[row, group] else ""
        return f"{value:+.3g} [{low:+.3g}, {high:+.3g}]{star}"

    def to_json(self) -> dict[str, Any]:
        """Every field but ``member`` as JSON holds it, and ``found``."""
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del facts["member"]
        facts["found"] = self.found
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in facts.items()}

    def attribution(self) -> DenseAttribution:
        """The linear prediction, a group's influence shared equally by its examples: judges take it.

            f_j(w) = bias_j + sum_g weight_jg w_g,   weight = influence, or (G - 1) / G influence for a contrast

        A contrast predicts subsets that keep that same number of groups, and ranks groups; what the data as a
        whole are worth it cannot know. The errors of different groups are taken as independent.
        """
        count = len(self.groups)
        scale = (count - 1) / count if self.contrast else 1.0
        share = 1.0 / np.bincount(self.member, minlength=count)
        weights = scale * self.influence
        basis = (self.member[:, None] == np.arange(count)) * share
        none = np.zeros(len(weights))
        return DenseAttribution(
            (weights * share)[:, self.member].astype(np.float32),
            Info(
                f"group influences ({self.estimator})",
                settings={"estimator": self.estimator, "groups": list(self.groups)},
                cost={"trainings": self.subsets},
                removal=self.removal,
                fraction=float(self.kept.mean()),
                question=self.provenance.get("question", ""),
                output=self.provenance.get("output_name", ""),
                note=CONTRAST if self.contrast else "",
                better=self.provenance.get("better"),
                provenance=self.provenance,
                fitted=self.fitted,
            ),
            bias=(self.mean - weights @ self.kept).astype(np.float32),
            uncertainty=Uncertainty(none, basis=basis, spectrum=(scale * self.error) ** 2),
        )


@checked("dl-762")
def group_influences(
    outcomes: Outcomes,
    groups: Array,
    *,
    names: dict[Any, str] | None = None,
    estimator: Estimator = "means",
    level: float = 0.95,
    discovery: float = 0.05,
) -> GroupInfluences:
    """The influence of every group on every output, from retrainings that keep or leave whole groups.

        influence_jg = mean of f_j over subsets with g - mean over those without      (means)
        error_jg     = sqrt(s1^2 / k1 + s0^2 / k0), Welch's t for interval and p      (s: sd, k: subsets a side)

    ``groups [n]`` names the group of every example, as in ``Subsets(kind="groups", groups=groups)`` or
    :func:`group_subsets`. ``names`` says what they are called. ``regression`` is least squares on all
    memberships at once, which takes the other groups' part out of the noise: t with k - 1 - rank degrees of freedom.

    Where subsets keep a *fixed* number of groups, memberships are negatively correlated and singular along all
    ones. Both estimators then give the contrast that is known: if f is linear with weights theta_g,

        influence_g = theta_g - mean of theta over the other groups

    With groups kept independently (:func:`group_subsets`) it is theta_g itself. Seeds of one subset are averaged
    first; subsets with a diverged run are left out and noted. To ask about a mean over targets, average them
    before: :func:`pool_targets`.

    Raises ``BadInput`` dl-760 (groups that do not fit, a group that is split), dl-761 (a group in fewer than 2
    subsets, or missing in fewer than 2; a regression on too few subsets), dl-762 (settings).

    >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 2, dtype=bool)
    >>> outcomes = Outcomes.from_arrays(masks, masks @ np.array([[2.0], [0.0], [-2.0]]))
    >>> group_influences(outcomes, np.array(["cats", "dogs", "ants"])).influence.tolist()
    [[-3.0, 3.0, 0.0]]

    Source: Jain et al. 2023 (data-transfer), class influences; Benjamini and Hochberg 1995.
    """
    if estimator not in get_args(Estimator) or not 0 < level < 1 or not 0 < discovery < 1:
        raise BadInput(
            "dl-762",
            asked=f"estimator={estimator!r}, level={level:g}, discovery={discovery:g}",
            found="a setting outside its range",
            do=f"choose the estimator from {get_args(Estimator)}, the shares between 0 and 1",
        )
    kept = outcomes.complete()
    members, member, called = _memberships(kept.subsets, groups, names)
    y = kept.mean().astype(np.float64)
    contrast = bool((members.sum(axis=1) == members[0].sum()).all())
    found = (_means if estimator == "means" else _regression)(members, y, contrast)
    half = stats.t.ppf(0.5 + level / 2, found.freedom) * found.error
    p = _p_values(found)
    left_out = outcomes.subsets.count - kept.subsets.count
    notes = [CONTRAST] if contrast else []
    if left_out:
        notes.append(f"{left_out} of {outcomes.subsets.count} subsets had a diverged run and were left out")
    return GroupInfluences(
        groups=called,
        influence=found.influence,
        error=found.error,
        low=found.influence - half,
        high=found.influence + half,
        p=p,
        q=stats.false_discovery_control(p, axis=None).reshape(p.shape),
        kept=members.mean(axis=0),
        mean=y.mean(axis=0),
        member=member,
        subsets=kept.subsets.count,
        contrast=contrast,
        estimator=estimator,
        level=level,
        discovery=discovery,
        removal=outcomes.removal,
        notes=tuple(notes),
        provenance=outcomes.provenance,
        fitted=(fitted_to("fit", outcomes),),
    )


@checked("dl-762")
def group_subsets(groups: Array, count: int, *, fraction: float = 0.5, seed: int = 0) -> Subsets:
    """``count`` subsets that keep every group independently with probability ``fraction``, at least one of them.

    Unlike ``Subsets(kind="groups")``, which keeps a fixed number of groups, these tell what a group is worth by
    itself, not only against the others; the price is models of unequal sizes. A subset that would keep nothing
    is drawn again.

    Raises ``BadInput`` dl-760 (fewer than 2 groups), dl-762 (count or fraction).

    >>> group_subsets(np.array([0, 0, 1, 2]), 3).masks().shape
    (3, 4)
    """
    known, member = named_groups(groups)
    if count < 1 or not 0 < fraction < 1:
        raise BadInput(
            "dl-762",
            asked=f"{count} subsets that keep a group with probability {fraction:g}",
            found="a setting outside its range",
            do="ask for at least one subset and a fraction between 0 and 1",
        )
    _check_groups(member.shape, len(known), len(member))
    stream = Stream.root(seed)("subset", "independent groups")
    ids = np.arange(len(known))
    rows, attempt = np.zeros((count, len(known)), dtype=bool), 0
    while (empty := np.flatnonzero(~rows.any(axis=1))).size:
        rows[empty] = stream("attempt", attempt).uniform(ids, empty[:, None]) < fraction
        attempt += 1
    return Subsets.listed(rows[:, member], seed=seed)


@checked("dl-762")
def pool_targets(outcomes: Outcomes, pools: Array | None = None) -> Outcomes:
    """The outcomes of mean outputs: one target row per pool, pools in sorted order (None: one of them all).

    Targets share their models, so that the error of a mean over targets is not the mean error over sqrt(m):
    average first, then estimate. ``pools [m]`` names the pool of every target row, its class for instance.

    Raises ``BadInput`` dl-768 (another number of rows).

    >>> outcomes = Outcomes.from_arrays(np.eye(2, dtype=bool), np.array([[1.0, 3.0, 5.0], [0.0, 2.0, 9.0]]))
    >>> pool_targets(outcomes, np.array(["b", "a", "b"])).mean().tolist()
    [[3.0, 3.0], [2.0, 4.5]]
    """
    pools = np.zeros(outcomes.m, dtype=int) if pools is None else np.asarray(pools)
    if pools.shape != (outcomes.m,):
        raise BadInput(
            "dl-768",
            asked=f"a pool for each of {outcomes.m} target rows",
            found=f"pools of shape {pools.shape}",
            do="give one pool name per target row (question.index[:, 0] is each row's target example)",
        )
    known, which = np.unique(pools, return_inverse=True)
    weights = (which[:, None] == np.arange(len(known))) / np.bincount(which)
    facts, record = dict(outcomes.facts), outcomes.provenance
    if "targets" in record:  # means over pools are other targets than single rows
        pooled = {"targets": identity([record["targets"], which]), "rows": len(known)}
        facts["provenance"] = {name: value for name, value in record.items() if name != "question"} | pooled
        facts.pop("question", None)
    values = (outcomes.values @ weights).astype(np.float32)
    return dataclasses.replace(outcomes, values=values, facts=facts)


def named_groups(groups: Array) -> tuple[np.ndarray, Int[np.ndarray, "..."]]:
    """The names of groups in order, and the number of each example's (dl-760)."""
    names = np.asarray(groups)
    if names.dtype.kind == "f" and np.isnan(names).any():
        raise BadInput(
            "dl-760",
            asked="the groups of the examples",
            found=f"NaN for {int(np.isnan(names).sum())} of {len(names)}",
            do="give every example a group of its own or a common one",
        )
    try:
        return np.unique(names, return_inverse=True)
    except TypeError as error:
        raise BadInput(
            "dl-760",
            asked="the groups of the examples",
            found=f"names that have no order ({error})",
            do="give one group per example: all texts, or all numbers",
        ) from error


def _check_groups(shape: tuple[int, ...], count: int, n: int) -> None:
    if shape != (n,) or count < 2:
        raise BadInput(
            "dl-760",
            asked=f"at least 2 groups, and one for each of {n} examples",
            found=f"{count} groups in an array of shape {shape}",
            do="give one group per example: question.train.labels.numpy(), or a column of meta",
        )


def _memberships(
    subsets: Subsets, groups: Array, names: dict[Any, str] | None = None
) -> tuple[Bool[np.ndarray, "k G"], Int[np.ndarray, " n"], tuple[str, ...]]:
    """Which groups every subset keeps, the group number of every example, and what the groups are called."""
    known, member = named_groups(groups)
    _check_groups(member.shape, len(known), subsets.n)
    called = tuple(str((names or {}).get(value, value)) for value in known.tolist())
    first = np.unique(member, return_index=True)[1]
    found = np.empty((subsets.count, len(first)), dtype=bool)
    step = max(1, 32_000_000 // subsets.n)
    for start in range(0, subsets.count, step):
        rows = slice(start, min(start + step, subsets.count))
        masks = subsets.masks(rows)
        found[rows] = masks[:, first]
        wrong = masks != found[rows][:, member]
        if wrong.any():
            row, example = (int(i) for i in np.argwhere(wrong)[0])
            raise BadInput(
                "dl-760",
                asked="subsets that keep or leave whole groups",
                found=f"subset {start + row} keeps only a part of group {called[member[example]]}",
                do='train on Subsets(kind="groups", groups=...) or group_subsets(groups, count)',
            )
    with_it = found.sum(axis=0)
    scarce = np.flatnonzero(np.minimum(with_it, len(found) - with_it) < 2)
    if scarce.size:
        bad = int(scarce[0])
        rarely = "keep it" if with_it[bad] < 2 else "leave it out"
        raise BadInput(
            "dl-761",
            asked="the mean output with and without every group",
            found=f"group {called[bad]} in {with_it[bad]} of {len(found)} subsets",
            do=f"train on more subsets that {rarely}: at least 2 with and 2 without",
        )
    return found, member, called


class _Fitted(NamedTuple):
    """Influences, standard errors and degrees of freedom of t."""

    influence: Float[np.ndarray, "m G"]
    error: Float[np.ndarray, "m G"]
    freedom: Float[np.ndarray, "m G"]


def _means(members: Bool[np.ndarray, "k G"], y: Float[np.ndarray, "k m"], contrast: bool) -> _Fitted:
    """Differences of means with Welch's error and the degrees of freedom of Welch and Satterthwaite."""
    del contrast  # a difference of means is one already
    centred = y - y.mean(axis=0)
    sides = []
    for part in (members, ~members):
        count = part.sum(axis=0)
        weights = part.astype(np.float64) / count
        mean = centred.T @ weights
        square = (centred**2).T @ weights
        sides.append((mean, np.maximum(square - mean**2, 0.0) / (count - 1), count))
    (mean1, var1, k1), (mean0, var0, k0) = sides
    total = var1 + var0
    weighted = var1**2 / (k1 - 1) + var0**2 / (k0 - 1)
    freedom = np.where(weighted > 0, total**2 / np.where(weighted > 0, weighted, 1.0), len(y) - 2.0)
    return _Fitted(mean1 - mean0, np.sqrt(total), freedom)


def _regression(members: Bool[np.ndarray, "k G"], y: Float[np.ndarray, "k m"], contrast: bool) -> _Fitted:
    """Least squares with its error, as contrasts where only those are known."""
    k, count = members.shape
    fit = ridge(members, y, penalties=[RIDGE]) if k > count + 1 else None
    known = 0 if fit is None else len(fit.eigenvalues)
    if fit is None or known < count - contrast:
        raise BadInput(
            "dl-761",
            asked=f"a regression on {count} groups",
            found=f"{k} subsets, which tell {known or 'too few'} of them apart",
            do=f"train on more than {count + 1} subsets that differ, or use the difference of means",
        )
    asked = np.eye(count)
    if contrast:
        asked = count / (count - 1) * (asked - 1.0 / count)
    along = (asked @ fit.basis) ** 2
    variance = fit.spread[:, None] * (asked**2).sum(axis=1) + fit.spectrum @ along.T
    influence = fit.weights @ asked.T
    freedom = np.full(influence.shape, k - 1.0 - known)
    return _Fitted(influence, np.sqrt(np.maximum(variance, 0.0)), freedom)


def _p_values(found: _Fitted) -> Float[np.ndarray, "m G"]:
    """Two-sided, of t = influence / error; with no error at all, 0 for an influence and 1 for none."""
    t = np.abs(found.influence) / np.where(found.error > 0, found.error, 1.0)
    exact = (found.influence == 0).astype(np.float64)
    return np.where(found.error > 0, 2.0 * stats.t.sf(t, found.freedom), exact)
