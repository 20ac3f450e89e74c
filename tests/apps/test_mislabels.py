"""Mislabels: every way is its formula, planted wrong labels come first, nothing impossible starts work."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError
from dataloupe.apps import mislabels
from dataloupe.core import DenseAttribution, Examples, Info, MemoryLab, Outcomes, Question, Subsets
from dataloupe.testing import RidgeLearner

N, WRONG = 60, [3, 17, 40, 58]


def planted(seed=0):
    """Three separated classes; four labels are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, N)
    x = 6 * np.eye(6)[labels] + rng.standard_normal((N, 6))
    labels[WRONG] = (labels[WRONG] + 1) % 3
    train = Examples(torch.tensor(x, dtype=torch.float32), torch.tensor(labels))
    return Question(RidgeLearner(penalty=1.0, classes=3), train, train[:5], outputs.margin)


class Told(MemoryLab):
    """A lab that gives the values it was told."""

    def __init__(self, values):
        super().__init__()
        self.told = values

    def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
        values = self.told[:, None].astype(np.float32)
        status = (~np.isfinite(values).all(axis=2)).astype(np.uint8)
        return Outcomes(subsets, values, status)


def told(by, values, masks, question=None):
    return mislabels(question or planted(), Told(values), by=by, subsets=Subsets.listed(masks))


@pytest.mark.parametrize("seed", range(2))
def test_planted_wrong_labels_come_first(seed):
    question, lab = planted(seed), MemoryLab()
    subsets = Subsets(N, 40, fraction=0.8)
    for by in ("mean", "held-out", "full", "memorisation"):
        found = mislabels(question, lab, by=by, subsets=None if by == "full" else subsets)
        assert roc_auc_score(np.isin(np.arange(N), WRONG), found.scores) >= 0.99
        assert sorted(found.order.tolist()) == list(range(N))
        assert (np.diff(found.scores[found.order]) <= 0).all()


def test_every_way_is_its_formula():
    rng = np.random.default_rng(0)
    masks = rng.random((30, N)) < 0.5
    values = 1e4 + rng.standard_normal((30, N))
    stored = values.astype(np.float32).astype(np.float64)
    inside = [stored[masks[:, i], i] for i in range(N)]
    outside = [stored[~masks[:, i], i] for i in range(N)]

    def mean(parts):
        return np.array([part.mean() for part in parts])

    def square(parts):
        return np.array([part.var(ddof=1) / len(part) for part in parts])

    expected = {
        "mean": (-stored.mean(0), stored.var(0, ddof=1) / 30),
        "full": (-stored.mean(0), stored.var(0, ddof=1) / 30),
        "held-out": (-mean(outside), square(outside)),
        "memorisation": (mean(inside) - mean(outside), square(inside) + square(outside)),
    }
    for by, (scores, squares) in expected.items():
        found = told(by, values, masks)
        np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.errors, np.sqrt(squares), rtol=1e-6)
        assert found.trainings == 30


def test_a_loss_is_turned_round():
    rng = np.random.default_rng(1)
    masks, values = rng.random((20, N)) < 0.5, rng.random((20, N))
    of_loss = dataclasses.replace(planted(), output=outputs.loss)
    right = told("held-out", -values, masks)
    np.testing.assert_allclose(told("held-out", values, masks, of_loss).scores, right.scores, atol=1e-6)


def test_the_effect_on_targets():
    scores = np.array([[1.0] * N, [0.0] * 10 + [-4.0] + [0.0] * (N - 11)])
    attribution = DenseAttribution(scores, Info("by hand", output="margin"), units="relative")
    found = mislabels(planted(), Told(np.empty(0)), by="effect", attribution=attribution)
    assert found.order.tolist()[:3] == [10, 0, 1]
    assert found.scores[10] == pytest.approx(1.5)
    assert found.errors is None
    assert found.trainings == 0


def test_equal_rows_keep_their_order():
    found = told("mean", np.ones((4, N)), np.ones((4, N), dtype=bool))
    assert found.order.tolist() == list(range(N))
    assert (found.errors == 0).all()


def test_diverged_runs_are_left_out_and_counted():
    rng = np.random.default_rng(2)
    masks, values = rng.random((30, N)) < 0.5, rng.standard_normal((30, N))
    broken = values.copy()
    broken[4] = np.nan
    found = told("held-out", broken, masks)
    rest = np.arange(30) != 4
    np.testing.assert_allclose(found.scores, told("held-out", values[rest], masks[rest]).scores, atol=1e-6)
    assert found.trainings == 29
    assert "1 diverged" in found.notes[0]


def test_it_goes_to_json_and_reads_as_one_line():
    found = mislabels(planted(), MemoryLab(), subsets=Subsets(N, 20))
    facts = json.loads(json.dumps(found.to_json()))
    assert facts["order"] == found.order.tolist()
    assert facts["by"] == "mean"
    assert f"most suspicious: {found.order[0]}," in str(found)
    assert "20 trainings" in str(found)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_meant_starts_no_work():
    question = planted()
    scores = DenseAttribution(np.ones((5, N)), Info("by hand"))

    class Untouched(MemoryLab):
        def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
            raise AssertionError("work was started")

    def refused(code, asked=question, **more):
        with pytest.raises((BadInput, CapabilityError), match=code):
            mislabels(asked, Untouched(), **more)

    refused("dl-754", by="size")
    refused("dl-754", by="effect")
    refused("dl-754", attribution=scores)
    refused("dl-754", by="effect", attribution=scores, subsets=Subsets(N, 20))
    refused(r"dl-755.*value", dataclasses.replace(question, output=outputs.value))
    refused("dl-756", by="held-out", subsets=Subsets.full(N, 10))
    refused("dl-756", by="memorisation", subsets=Subsets(N, 2))
    refused("dl-756", by="full", subsets=Subsets.full(N, 1))
    refused("dl-757", subsets=Subsets(N + 1, 20))
    refused("dl-757", by="effect", attribution=DenseAttribution(np.ones((5, N - 1)), Info("other")))
    refused("dl-512", by="effect", attribution=DenseAttribution(np.ones((5, N)), Info("x", output="loss")))

    class Finished:
        def models(self):
            return []

        def subsets(self, n):  # noqa: ARG002
            return None

    finished = dataclasses.replace(question, learner=Finished())
    refused(r"dl-758.*effect", finished)
    assert mislabels(finished, Untouched(), by="effect", attribution=scores).trainings == 0
