"""What-if: predictions and verifications on the ridge oracle, where the truth is algebra."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dataloupe import outputs
from dataloupe._errors import BadInput, CapabilityError, UnitsError
from dataloupe.apps import what_if
from dataloupe.apps._what_if import judge_change
from dataloupe.core import (
    DenseAttribution,
    Examples,
    Info,
    MemoryLab,
    Outcomes,
    Question,
    Subsets,
    Uncertainty,
)
from dataloupe.methods import calibrate
from dataloupe.testing import RidgeLearner

N, D, M = 60, 4, 10


def world(seed, noise=0.3):
    """A regression question, its noise-free twin, and the first-order influence of every row."""
    rng = np.random.default_rng(seed)
    x, beta = rng.standard_normal((N, D)), rng.standard_normal(D)
    y = x @ beta + rng.standard_normal(N)
    train = Examples(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    phi = rng.standard_normal((M, D))
    targets = Examples(torch.tensor(phi, dtype=torch.float32), torch.zeros(M))
    inverse = np.linalg.inv(x.T @ x + np.eye(D))
    influence = phi @ inverse @ x.T * (y - x @ inverse @ x.T @ y)
    noisy = Question(RidgeLearner(penalty=1.0, noise=noise), train, targets, outputs.value)
    return noisy, dataclasses.replace(noisy, learner=RidgeLearner(penalty=1.0)), influence


@pytest.mark.usefixtures("unchecked")
def test_predicted_and_verified_intervals_cover_the_true_change():
    verified, predicted, verdicts = [], [], []
    for seed in range(10):
        noisy, exact, influence = world(seed)
        raw = DenseAttribution(influence / 75, Info("influence"), units="relative")
        lab = MemoryLab()
        recipe = Subsets(n=N, count=40, fraction=0.9, seed=seed)
        scaled = calibrate(raw, lab.outcomes(noisy, recipe, repeats=2))
        rng = np.random.default_rng(1000 + seed)
        for q in range(20):
            remove, target = rng.choice(N, 6, replace=False), int(rng.integers(M))
            answer = what_if(noisy, lab, scaled, target, remove, verify=5, seed=1000 * seed + q)
            truth = np.diff(lab.outcomes(exact, Subsets.without(N, [[], remove])).values[:, 0, target])[0]
            low, high = answer.verified_interval
            verified.append(low <= truth <= high)
            if answer.predicted_interval is not None:
                low, high = answer.predicted_interval
                predicted.append(low <= truth <= high)
            verdicts.append(answer.verdict)
    assert np.mean(verified) >= 0.93
    assert np.mean(predicted) >= 0.93 and len(predicted) > 150
    assert verdicts.count("disagree") <= 14


# --- one question ---


def asked(noise=0.3):
    noisy, _, influence = world(0, noise)
    known = Uncertainty(spread=np.full(M, 1e-4))
    return noisy, DenseAttribution(influence, Info("by hand", fraction=1.0), uncertainty=known)


def test_the_verified_change_is_the_mean_of_paired_differences():
    noisy, scores = asked()
    answer = what_if(noisy, MemoryLab(), scores, 3, [4, 1, 9], verify=4, seed=7, level=0.9)
    runs = []
    for r in range(4):
        worlds = Subsets.without(N, [[], [4, 1, 9]], seed=7)
        before, after = (
            noisy.learner.train(
                noisy.train, torch.from_numpy(mask.astype(np.float32)), seed=worlds.train_seed(k, r) % 2**31
            )
            for k, mask in enumerate(worlds.masks())
        )
        runs.append(noisy.measure(after)[3].astype(np.float64) - noisy.measure(before)[3].astype(np.float64))
    np.testing.assert_allclose(answer.differences, runs, atol=1e-6)
    assert answer.verified == pytest.approx(np.mean(runs), abs=1e-6)
    half = 2.3533634 * np.std(runs, ddof=1) / 2  # t of 3 degrees of freedom at 90 %
    assert answer.verified_interval == pytest.approx((np.mean(runs) - half, np.mean(runs) + half), abs=1e-5)
    assert answer.predicted == pytest.approx(-scores.scores[3, [4, 1, 9]].sum(), rel=1e-5)
    side = 1.6448536 * (3e-4) ** 0.5
    assert answer.predicted_interval == pytest.approx(
        (answer.predicted - side, answer.predicted + side), rel=1e-4
    )
    assert answer.removed.tolist() == [4, 1, 9] and answer.target == 3 and answer.method == "by hand"


@dataclasses.dataclass
class Told(MemoryLab):
    """A lab whose retrainings find what it was told."""

    before: tuple
    after: tuple

    def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
        values = np.zeros((2, repeats, M), dtype=np.float32)
        values[0], values[1] = np.array(self.before)[:, None], np.array(self.after)[:, None]
        return Outcomes.from_arrays(subsets.masks(), values)


def told(predicted, differences, error=None):
    """An answer where the prediction and the pairs' differences are given."""
    noisy, _ = asked()
    scores = np.zeros((M, N))
    scores[0] = np.where(np.arange(N) % 2, -predicted, predicted)  # row 5 is one of many
    scores[0, 6:8] = 3 * predicted, -3 * predicted
    known = None if error is None else Uncertainty(spread=np.full(M, error**2))
    attribution = DenseAttribution(scores, Info("told", fraction=1.0), uncertainty=known)
    lab = Told((1.0,) * len(differences), tuple(1.0 + d for d in differences))
    return what_if(noisy, lab, attribution, 0, [5], verify=len(differences))


def test_verdicts():
    clear = (-1.5, -1.7, -1.6, -1.4, -1.6)
    assert told(-1.9, clear, error=0.2).verdict == "agree"
    assert told(1.6, clear, error=0.2).verdict == "disagree"
    assert told(-4.8, clear, error=0.6).verdict == "disagree"
    noisy = (-3.0, 2.0, 1.0, -2.0, 0.5)
    assert told(-1.0, noisy, error=0.2).verdict == "undecided"
    assert told(-9.0, noisy, error=0.2).verdict == "disagree"


def test_what_could_not_have_failed_does_not_agree():
    """No effect predicted, an interval that holds 0, or one that would have held twice the effect: no test of anything."""
    nothing, clear = (-0.01, 0.01, 0.0, 0.02, -0.02), (-1.5, -1.7, -1.6, -1.4, -1.6)
    assert told(0.0, nothing, error=0.2).verdict == "uninformative"
    assert told(0.0, (0.0, 0.0)).verdict == "uninformative"
    assert told(-0.5, clear, error=1.0).verdict == "uninformative"
    assert judge_change(-3.0, (-5.0, -1.0), (-1.7, -1.5)) == "uninformative"
    assert judge_change(-1.6, (-2.2, -1.0), (-1.7, -1.5)) == "agree"
    assert judge_change(-1.6, (-1.7, 0.1), (-1.7, -1.5)) == "uninformative"


def test_a_prediction_without_an_interval_is_held_against_a_factor_of_two():
    clear = (-1.5, -1.7, -1.6, -1.4, -1.6)
    assert [told(p, clear).verdict for p in (-1.6, -2.5, -4.8, -0.5, 1.6)] == [
        "agree",
        "agree",
        "disagree",
        "disagree",
        "disagree",
    ]
    assert told(0.005, (-0.01, 0.01, 0.0, 0.02, -0.02)).verdict == "undecided"


def test_it_reads_as_one_line():
    answer = told(-1.9, (-1.2, -1.9, -1.8, -1.4, -1.7), error=0.25)
    assert str(answer) == (
        "predicted -1.9 [-2.4, -1.4], verified -1.6 [-2.0, -1.2] by 5 pairs of retrainings: agree"
    )
    noisy, scores = asked()
    assert str(what_if(noisy, MemoryLab(), scores, 0, [5], verify=0)).endswith(": unverified")


def test_it_goes_to_json_and_back():
    answer = told(-1.9, (-1.2, -1.9), error=0.25)
    facts = json.loads(json.dumps(answer.to_json()))
    assert facts["verdict"] == answer.verdict and facts["removed"] == [5]
    assert facts["differences"] == pytest.approx([-1.2, -1.9], abs=1e-6)
    assert facts["predicted_interval"] == pytest.approx(list(answer.predicted_interval))


def test_diverged_pairs_are_left_out_and_counted():
    answer = told(-1.6, (-1.5, np.nan, -1.6, -1.7))
    assert len(answer.differences) == 3 and any("1 of 4 pairs diverged" in note for note in answer.notes)
    assert answer.verified == pytest.approx(-1.6, abs=1e-6)
    lost = told(-1.6, (np.nan, np.nan, -1.7))
    assert lost.verdict == "unverified" and lost.verified is None
    assert any("2 of 3" in note for note in lost.notes)


def test_it_says_where_the_prediction_was_made():
    noisy, scores = asked()

    def notes(**changes):
        changed = dataclasses.replace(scores, info=dataclasses.replace(scores.info, **changes))
        return " / ".join(what_if(noisy, MemoryLab(), changed, 0, [5, 6], verify=2).notes)

    assert notes().startswith("nothing records what made by hand") and " / " not in notes()
    assert "linearised at 50% of the data, asked about removing 3.3%" in notes(fraction=0.5)
    assert "nobody knows" in notes(fraction=None)
    assert "by mask, the learner does it by repack" in notes(removal="mask")
    top = what_if(noisy, MemoryLab(), scores, 0, scores.top(0, 10), verify=2)
    assert any("selected by their scores" in note for note in top.notes) and top.predicted_interval is None


def test_without_an_error_there_is_no_predicted_interval():
    answer = told(-1.6, (-1.5, -1.7, -1.6))
    assert answer.predicted_interval is None and answer.verified_interval is not None


def test_impossible_questions_are_refused_before_any_work():
    noisy, scores = asked()

    class Untouched(MemoryLab):
        def outcomes(self, question, subsets, *, repeats=1):  # noqa: ARG002
            raise AssertionError("work was started")

    def ask(target=0, remove=(1,), attribution=scores, question=noisy, **more):
        return what_if(question, Untouched(), attribution, target, list(remove), **more)

    relative = dataclasses.replace(scores, units="relative")
    with pytest.raises(UnitsError, match=r"dl-507.*calibrate"):
        ask(attribution=relative)
    for remove, code in (
        ((), "dl-108"),
        ((1, 1), "dl-110"),
        ((N,), "dl-109"),
        ((-1,), "dl-109"),
        (range(N), "dl-730"),
    ):
        with pytest.raises(BadInput, match=code):
            ask(remove=remove)
    for target in (M, -1):
        with pytest.raises(BadInput, match=r"dl-109.*target row"):
            ask(target=target)
    for verify in (1, -2):
        with pytest.raises(BadInput, match=r"dl-731.*interval"):
            ask(verify=verify)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(BadInput, match="dl-732"):
            ask(level=level)
    with pytest.raises(BadInput, match="dl-733"):
        ask(attribution=DenseAttribution(np.ones((M, N + 1)), Info("other")))

    class Finished:
        def models(self):
            return []

        def subsets(self, n):  # noqa: ARG002
            return None

    finished = dataclasses.replace(noisy, learner=Finished())
    with pytest.raises(CapabilityError, match=r"dl-734.*verify=0"):
        ask(question=finished)
    assert ask(question=finished, verify=0).verdict == "unverified"
