"""What belongs together is compared by identity, never by shape: every public judge and application, part by part."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
import pytest
import torch

import dataloupe as dl
from dataloupe._errors import BadInput, DataloupeError
from dataloupe.core import Attribution, DenseAttribution, MemoryLab, Outcomes, Question, provenance_of
from dataloupe.testing import RidgeLearner
from dataloupe.testing._attributor_contract import RidgeSource

N, M = 40, 6
LAB = MemoryLab()


def rows(count: int, seed: int) -> dl.Examples:
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((count, 5)).astype(np.float32)
    return dl.Examples(x, labels=(x[:, 0] + 0.5 * draws.standard_normal(count) > 0).astype(int))


TRAIN, TARGETS = rows(N, 0), rows(M, 1)
BASE = Question(RidgeLearner(classes=2), TRAIN, TARGETS, dl.outputs.hard_margin)
OTHERS = {
    "training data": dataclasses.replace(BASE, train=rows(N, 2)),
    "targets": dataclasses.replace(BASE, targets=rows(M, 3)),
    "targets in another order": dataclasses.replace(BASE, targets=TARGETS[np.arange(M)[::-1]]),
    "output": dataclasses.replace(BASE, output=dl.outputs.margin),
}
"""Questions of the very same sizes, each with one other part."""
OTHER_LEARNER = dataclasses.replace(BASE, learner=RidgeLearner(penalty=9.0, classes=2))

FITTED, FRESH = dl.Subsets(N, 60, seed=3), dl.Subsets(N, 20, seed=1)


def scores(question: Question) -> DenseAttribution:
    """In the output's units, with a bias and an error."""
    return dl.Datamodel(FITTED).attribute(question, LAB)


def outcomes(question: Question, subsets: dl.Subsets = FRESH) -> Outcomes:
    return LAB.outcomes(question, subsets, repeats=2)


def difference(question: Question) -> dl.Difference:
    return dl.compare(scores(question), scores(question), components=1, null=None)


class Door(NamedTuple):
    """A public function that puts two things together, the first of the base question, the second of another."""

    call: Callable[[Question], Any]
    learner: str = "note"
    """What another learner is: refused, noted, or what it is about ("legitimate")."""
    apart: tuple[str, ...] = ()
    """Parts that may differ here."""


def direction(question: Question) -> Any:
    attribution = scores(BASE)
    return dl.removal_of_direction(
        question, LAB, attribution, (dl.principal(attribution, 1), 0), k=3, group=2, verify=2
    )


def report(*parts: Any) -> Any:
    def call(question: Question, folder: Any) -> Any:
        return dl.report(folder / "page.html", scores(BASE), *(part(question) for part in parts))

    return call


TARGETS_ONLY = ("targets", "targets in another order")
DOORS = {
    "lds": Door(lambda q: dl.lds(scores(BASE), outcomes(q))),
    "lds, a control": Door(
        lambda q: dl.lds(scores(BASE), outcomes(BASE), controls=[dl.RandomScores().attribute(q, LAB)]),
        "legitimate",
    ),
    "fidelity": Door(lambda q: dl.fidelity(scores(BASE), outcomes(q))),
    "calibration": Door(lambda q: dl.calibration(scores(BASE), outcomes(q))),
    "calibrate": Door(lambda q: dl.calibrate(scores(BASE), outcomes(q)), "refused"),
    "removal": Door(lambda q: dl.removal(q, LAB, scores(BASE), targets=[0, 1], k=3, repeats=2)),
    "what_if": Door(lambda q: dl.what_if(q, LAB, scores(BASE), 0, [1, 2], verify=2), "refused"),
    "support": Door(lambda q: dl.support(q, LAB, scores(BASE), [0], verify=2), "refused"),
    "smallest_support": Door(
        lambda q: dl.smallest_support(q, LAB, dl.RandomScores().attribute(BASE, LAB), [0], verify=2, rounds=1)
    ),
    "relabel_support": Door(
        lambda q: dl.relabel_support(q, LAB, dl.RandomScores().attribute(BASE, LAB), [0], verify=2, rounds=1)
    ),
    "removal_of_direction": Door(direction, "refused"),
    "mislabels": Door(
        lambda q: dl.mislabels(q, LAB, by="effect", attribution=scores(BASE)), "refused", TARGETS_ONLY
    ),
    "compare": Door(lambda q: dl.compare(scores(BASE), scores(q), components=1, null=None), "legitimate"),
    "pooled": Door(lambda q: dl.pooled([scores(BASE), scores(q)]), "refused"),
    "Datamodel": Door(
        lambda q: dl.Datamodel(FITTED, prior=scores(BASE)).attribute(q, LAB), "legitimate", ("output",)
    ),
    "enrichment": Door(
        lambda q: dl.enrichment(difference(BASE), q.train, q.targets, directions=[(0, 0)]),
        "legitimate",
        ("output",),
    ),
}
PAGES = {
    "report, two attributions": Door(report(lambda q: _named(scores(q), "other")), "refused"),
    "report, outcomes": Door(report(outcomes)),
    "report, an LDS": Door(report(lambda q: dl.lds(scores(q), outcomes(q)))),
    "report, a what-if": Door(
        report(lambda q: dl.what_if(q, LAB, scores(q), 0, [1], verify=2)), "legitimate"
    ),
    "report, a support": Door(report(lambda q: dl.support(q, LAB, scores(q), [0], verify=2)), "legitimate"),
    "report, mislabels": Door(report(lambda q: dl.mislabels(q, LAB)), "legitimate", TARGETS_ONLY),
    "report, leaks": Door(report(lambda q: dl.leaks(scores(q), 2)), "legitimate"),
    "report, a difference": Door(report(difference), "legitimate"),
}


def _named(attribution: DenseAttribution, name: str) -> DenseAttribution:
    return dataclasses.replace(attribution, info=dataclasses.replace(attribution.info, method=name))


def notes_of(result: Any) -> str:
    return " / ".join(getattr(result, "notes", ())) + getattr(getattr(result, "info", None), "note", "")


@pytest.mark.parametrize("part", OTHERS)
@pytest.mark.parametrize("door", [*DOORS, *PAGES])
def test_other_data_targets_or_outputs_are_refused_by_name(door, part, tmp_path):
    call, _, apart = {**DOORS, **PAGES}[door]
    given = (OTHERS[part],) if door in DOORS else (OTHERS[part], tmp_path)
    if part in apart:
        call(*given)
        return
    with pytest.raises(BadInput, match=rf"\[dl-512\].*other {part.split(' in ')[0]}"):
        call(*given)


@pytest.mark.parametrize("door", [*DOORS, *PAGES])
def test_another_learner_is_refused_where_units_are_claimed_and_noted_elsewhere(door, tmp_path):
    call, learner, _ = {**DOORS, **PAGES}[door]
    given = (OTHER_LEARNER,) if door in DOORS else (OTHER_LEARNER, tmp_path)
    if learner == "refused":
        with pytest.raises(BadInput, match=r"\[dl-513\].*another learner.*RidgeLearner"):
            call(*given)
        return
    result = call(*given)
    if learner == "note" and door in DOORS:
        assert "another learner" in notes_of(result)


@pytest.mark.parametrize("door", [*DOORS, *PAGES])
def test_what_belongs_together_is_taken_without_a_word(door, tmp_path):
    call, _, _ = {**DOORS, **PAGES}[door]
    result = call(BASE) if door in DOORS else call(BASE, tmp_path)
    assert not re.search("learner|records|checked", notes_of(result))


def test_every_public_function_that_puts_things_together_is_listed():
    """A new judge or application stands in the list above, or this says so."""
    pairs = set()
    for name in dir(dl):
        thing = getattr(dl, name)
        if not inspect.isfunction(thing):
            continue
        hints = get_type_hints(inspect.unwrap(thing))
        hints.pop("return", None)
        kinds = [_mentions(hint) for hint in hints.values()]
        if sum(map(bool, kinds)) > 1 and any(
            Attribution in kind or DenseAttribution in kind for kind in kinds
        ):
            pairs.add(name)
    listed = {name.split(",")[0] for name in (*DOORS, *PAGES)}
    assert pairs - listed == {"regenerate"}, (
        "it asks for samples of a diffusion: see tests/apps/test_journey.py"
    )


def _mentions(hint: Any) -> set[Any]:
    found = {hint} if hint in (Attribution, DenseAttribution, Outcomes, Question) else set()
    return found.union(*(_mentions(part) for part in get_args(hint) if not isinstance(part, str)))


# --- legitimate pairs --------------------------------------------------------------------------------------


def trak_of_finished_models() -> DenseAttribution:
    source = dataclasses.replace(BASE, learner=RidgeSource(TRAIN, count=4))
    return dl.TRAK(models=4).attribute(source, LAB)


def test_finished_models_are_judged_and_calibrated_by_retrainings_of_the_loop_that_made_them():
    trak = trak_of_finished_models()
    assert "finished models" in notes_of(dl.lds(trak, outcomes(BASE)))
    calibrated = dl.calibrate(trak, outcomes(BASE, dl.Subsets(N, 20, seed=2)))
    assert calibrated.info.provenance["learner"] == BASE.provenance["learner"]
    answer = dl.what_if(BASE, LAB, calibrated, 0, [1, 2], verify=2)
    assert "learner" not in notes_of(answer)
    with pytest.raises(BadInput, match="dl-513"):
        dl.what_if(OTHER_LEARNER, LAB, calibrated, 0, [1, 2], verify=2)


def test_a_proxy_and_another_train_output_are_the_question_s_own():
    proxied = dl.ByProxy(dl.RandomScores(), dl.outputs.margin).attribute(BASE, LAB)
    assert dl.lds(proxied, outcomes(BASE)).provenance == BASE.provenance
    trained_on = dataclasses.replace(BASE, train_output=dl.outputs.log_prob)
    assert dl.what_if(trained_on, LAB, scores(BASE), 0, [1], verify=2).verified is not None
    assert "learner" not in notes_of(dl.lds(scores(trained_on), outcomes(BASE)))


def test_some_targets_are_the_same_of_both_or_refused():
    whole, truth = scores(BASE), outcomes(BASE)
    assert dl.lds(whole.on(np.array([3, 1])), truth.on([3, 1])).targets == 2
    for other in ([1, 3], [3, 2]):
        with pytest.raises(BadInput, match="dl-512.*other targets"):
            dl.lds(whole.on(np.array([3, 1])), truth.on(other))
    every = np.arange(M)
    assert dl.lds(whole.on(every), truth.on(every)).value == dl.lds(whole, truth).value


def test_pooled_targets_are_targets_of_their_own():
    pools = np.arange(M)[::-1]
    groups = np.arange(N) % 5
    kept = dl.group_subsets(groups, 30, seed=1)
    found = dl.group_influences(dl.pool_targets(outcomes(BASE, kept), pools), groups).attribution()
    assert dl.lds(found, dl.pool_targets(outcomes(BASE), pools)).targets == M
    with pytest.raises(BadInput, match="dl-512.*other targets"):
        dl.lds(found, outcomes(BASE))


def test_a_user_s_own_truth_is_taken_with_a_note_or_told_whose_it_is():
    masks, values = FRESH.masks(), outcomes(BASE).values
    assert "nothing records what made the outcomes" in notes_of(
        dl.lds(scores(BASE), Outcomes.from_arrays(masks, values))
    )
    told = Outcomes.from_arrays(masks, values, question=BASE)
    assert notes_of(dl.lds(scores(BASE), told)) == notes_of(dl.lds(scores(BASE), outcomes(BASE)))
    with pytest.raises(BadInput, match="dl-512.*other training data"):
        dl.lds(scores(BASE), Outcomes.from_arrays(masks, values, question=OTHERS["training data"]))
    with pytest.raises(BadInput, match="dl-401"):
        Outcomes.from_arrays(masks, values[..., :2], question=BASE)


def test_scores_made_by_hand_are_known_by_their_examples():
    made = DenseAttribution(scores(BASE).scores, dl.Info("by hand"), train=TRAIN, targets=TARGETS)
    assert dl.what_if(BASE, LAB, made, 0, [1], verify=2).verified is not None
    for part in ("training data", "targets"):
        with pytest.raises(BadInput, match=f"dl-512.*other {part}"):
            dl.what_if(OTHERS[part], LAB, made, 0, [1], verify=2)


def test_what_an_earlier_version_kept_is_known_by_the_whole_question():
    info = dataclasses.replace(scores(BASE).info, provenance={}, fitted=())
    old = dataclasses.replace(scores(BASE), info=info)
    assert "records" not in notes_of(dl.what_if(BASE, LAB, old, 0, [1], verify=2))
    assert "which part differs was not recorded" in notes_of(dl.lds(old, outcomes(OTHER_LEARNER)))
    with pytest.raises(BadInput, match="dl-512.*another question"):
        dl.what_if(OTHER_LEARNER, LAB, old, 0, [1], verify=2)


# --- judged on what it was fitted to -----------------------------------------------------------------------


def test_a_datamodel_is_not_judged_on_its_own_trainings():
    """Case r08: 0.95 [0.93, 0.96] on its own trainings, 0.35 on fresh ones, and no word."""
    own = outcomes(BASE, FITTED)
    listed = dl.Subsets.listed(FITTED.masks(), seed=FITTED.seed)
    same = {
        "themselves": own,
        "more of them": outcomes(BASE, FITTED.first(80)),
        "some of them": own.split(20)[1],
        "as a list": LAB.outcomes(BASE, listed),
        "as arrays": Outcomes.from_arrays(FITTED.masks(), own.values),
    }
    for judge in (dl.lds, dl.fidelity, dl.calibration, dl.calibrate):
        for name, seen in same.items():
            with pytest.raises(BadInput, match="dl-514.*fitted to"):
                pytest.fail(f"{judge.__name__} on {name}: {judge(scores(BASE), seen)}")
    assert "fitted" not in notes_of(dl.lds(scores(BASE), outcomes(BASE)))


def test_subsets_seen_in_part_or_under_other_seeds_are_noted():
    part = dl.Subsets.listed(np.concatenate([FITTED.masks()[:5], FRESH.masks()]), seed=FITTED.seed)
    assert "fitted to 5 of the 25 subsets" in notes_of(dl.lds(scores(BASE), LAB.outcomes(BASE, part)))
    again = dl.Subsets.listed(FITTED.masks(), seed=99)
    assert "60 of the 60 subsets judged here, trained with other seeds" in notes_of(
        dl.lds(scores(BASE), LAB.outcomes(BASE, again))
    )


def test_a_calibration_is_not_reported_as_a_judgement():
    pilot = dl.Subsets(N, 20, seed=2)
    calibrated = dl.calibrate(scores(BASE), outcomes(BASE, pilot))
    for judge in (dl.calibration, dl.fidelity):
        with pytest.raises(BadInput, match="dl-514.*calibrated on"):
            judge(calibrated, outcomes(BASE, pilot))
        judge(calibrated, outcomes(BASE))
    assert "calibrated on 20 of the 20" in notes_of(dl.lds(calibrated, outcomes(BASE, pilot)))
    assert dl.calibrate(calibrated, outcomes(BASE, pilot)).info.certificate["slope"] == pytest.approx(
        1.0, rel=1e-4
    )


def test_influences_of_groups_are_not_judged_on_their_own_subsets():
    groups = np.arange(N) % 5
    kept = dl.group_subsets(groups, 30, seed=1)
    found = dl.group_influences(outcomes(BASE, kept), groups).attribution()
    with pytest.raises(BadInput, match="dl-514"):
        dl.lds(found, outcomes(BASE, kept))
    fresh = notes_of(dl.lds(found, outcomes(BASE, dl.group_subsets(groups, 30, seed=2))))
    assert "trained with other seeds" in fresh, "of 31 subsets of 5 groups, many come again"


def test_a_ridge_that_was_chosen_on_judged_models_is_noted():
    trak = dl.TRAK(models=6, seed=1).attribute(
        dataclasses.replace(BASE, learner=dl.testing.OpenRidge(TRAIN)), LAB
    )
    assert trak.info.fitted == () or {record["role"] for record in trak.info.fitted} == {"choice"}


def test_what_does_not_vary_has_no_rank_correlation():
    """Case r08: constant scores, and identical subsets, gave 0.00 [0.00, 0.00], which looks certain."""
    masks = dl.Subsets(n=20, count=30).masks()
    constant = DenseAttribution(np.zeros((3, 20)), dl.Info("constant"))
    some = DenseAttribution(np.eye(3, 20), dl.Info("some"))
    for attribution, kept, values, found in (
        (constant, masks, masks[:, :3].astype(float), "predictions of constant are"),
        (
            some,
            np.ones((30, 20), bool),
            np.random.default_rng(0).standard_normal((30, 3)),
            "predictions of some are",
        ),
        (some, masks, np.ones((30, 3)), "the outcomes are"),
    ):
        with pytest.raises(BadInput, match=f"dl-912.*{found}"):
            dl.lds(attribution, Outcomes.from_arrays(kept, values))


# --- what is kept ------------------------------------------------------------------------------------------


def test_the_record_is_stored_and_comes_back(tmp_path):
    question = dataclasses.replace(BASE, learner=dl.SklearnLearner.ridge_classifier())
    first = dl.Datamodel(FITTED).attribute(question, dl.Lab(tmp_path, progress=False))
    again = dl.Datamodel(FITTED).attribute(question, dl.Lab(tmp_path, progress=False))
    assert again.info == first.info
    assert again.info.provenance == question.provenance and again.info.better == "higher"
    assert again.info.fitted[0]["recipe"]["seed"] == 3
    control = dl.RandomScores().attribute(question, dl.Lab(tmp_path, progress=False))
    assert (first.info.role, control.info.role) == ("method", "control")
    with pytest.raises(BadInput, match="dl-514"):
        dl.lds(again, dl.Lab(tmp_path, progress=False).outcomes(question, FITTED))


def test_a_learner_without_an_identity_is_noted_and_not_compared():
    class Nameless(RidgeLearner):
        def __identity__(self):
            raise BadInput("dl-102", asked="an identity", found="none", do="give one")

    question = dataclasses.replace(BASE, learner=Nameless(classes=2))
    assert "learner" not in question.provenance and question.provenance["train"]
    assert "nothing records" in notes_of(dl.what_if(question, LAB, scores(BASE), 0, [1], verify=0))


def test_rows_are_picked_by_scores_of_training_rows_on_themselves():
    square = dataclasses.replace(BASE, targets=TRAIN)
    assert len(dl.unlearning.pick_like(scores(square), 3, 5)) == 5
    with pytest.raises(BadInput, match="dl-693.*other examples"):
        dl.unlearning.pick_like(scores(dataclasses.replace(BASE, targets=rows(N, 9))), 3, 5)


def network():
    return torch.nn.Linear(5, 2)


def test_models_and_predictions_of_another_learner_are_not_unlearned():
    learner = dl.SGD(network, epochs=1, batch_size=20)
    question = dataclasses.replace(BASE, learner=learner)
    other = dataclasses.replace(question, learner=dataclasses.replace(learner, epochs=2))
    method = dl.unlearning.GradientDescent(epochs=1)
    model = LAB.models(question, dl.Subsets.full(N))[0]
    done = dl.unlearn(model, [1, 2], method=method, lab=LAB, question=question)
    assert done.model.origin.learner == question.provenance["learner"]
    with pytest.raises(BadInput, match="dl-513.*another learner"):
        dl.unlearn(model, [1, 2], method=method, lab=LAB, question=other)
    every = dl.unlearning.everything(question)
    known = dl.unlearning.Attributed(dl.Datamodel(FITTED).attribute(every, LAB))
    context = dl.unlearning.Context.of(question, LAB, [1, 2])
    assert known.changes(context).shape == (N + M, 2)
    with pytest.raises(BadInput, match="dl-513"):
        known.changes(dl.unlearning.Context.of(other, LAB, [1, 2]))
    with pytest.raises(DataloupeError, match="dl-512.*other training data"):
        known.changes(dl.unlearning.Context.of(dataclasses.replace(question, train=rows(N, 2)), LAB, [1, 2]))


def test_findings_carry_the_record():
    attribution, truth = scores(BASE), outcomes(BASE)
    found = (
        dl.lds(attribution, truth),
        dl.calibration(attribution, truth),
        dl.what_if(BASE, LAB, attribution, 0, [1], verify=2),
        dl.support(BASE, LAB, attribution, [0], verify=2),
        dl.leaks(attribution, 1),
        dl.principal(attribution, 1),
        dl.neighbours(attribution, 0, 1),
        dl.mislabels(BASE, LAB),
        difference(BASE),
    )
    for finding in found:
        record = finding.provenance
        assert all(
            record[part] == provenance_of(attribution)[part] for part in ("train", "targets", "output")
        )
